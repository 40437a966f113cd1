// Package pb holds the protobuf messages of EventStore's TCP protocol, generated from
// goeventstore/tcp/v1/messages.proto in this folder.
//
// After a change of that file run
//
//	go generate ./messages/pb
//
// in the root of the repository. It needs nothing but Go.
package pb

//go:generate go run -C ../../internal/tools ./protogen -src ../../messages/pb -out ../.. goeventstore/tcp/v1/messages.proto
