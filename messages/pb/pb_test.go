package pb_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	"github.com/goeventstore/eventstore/messages/pb"
)

const (
	path   = "goeventstore/tcp/v1/messages.proto"
	prefix = "goeventstore.tcp.v1"
)

// TestNothingIsRegisteredUnderAPlainName guards programs that link another EventStore client too: file paths and names of
// messages are global to the program, and a second registration of one ends it before main.
func TestNothingIsRegisteredUnderAPlainName(t *testing.T) {
	file := pb.File_goeventstore_tcp_v1_messages_proto
	require.Equal(t, path, file.Path())
	require.Equal(t, protoreflect.FullName(prefix), file.Package())

	registered, err := protoregistry.GlobalFiles.FindFileByPath(path)
	require.NoError(t, err)
	require.Equal(t, file.FullName(), registered.FullName())

	protoregistry.GlobalTypes.RangeMessages(func(mt protoreflect.MessageType) bool {
		require.Equal(t, path, mt.Descriptor().ParentFile().Path(), "%s comes from another file", mt.Descriptor().FullName())
		return true
	})
	for i := range file.Messages().Len() {
		name := file.Messages().Get(i).Name()
		_, err := protoregistry.GlobalTypes.FindMessageByName(protoreflect.FullName(name))
		require.ErrorIs(t, err, protoregistry.NotFound, "%s is registered without a package", name)
	}
}

// TestNoFieldIsRequired holds the rule that a message is never rejected because the server left a field out.
func TestNoFieldIsRequired(t *testing.T) {
	messages := pb.File_goeventstore_tcp_v1_messages_proto.Messages()
	require.NotZero(t, messages.Len())
	for i := range messages.Len() {
		fields := messages.Get(i).Fields()
		for j := range fields.Len() {
			field := fields.Get(j)
			require.NotEqual(t, protoreflect.Required, field.Cardinality(), field.FullName())
			if field.Cardinality() == protoreflect.Optional {
				require.True(t, field.HasPresence(), field.FullName())
			}
		}
	}
}

// TestUnknownResultIsNotSuccess: a result that this schema does not know must not become the zero value.
func TestUnknownResultIsNotSuccess(t *testing.T) {
	var m pb.WriteEventsCompleted
	require.NoError(t, proto.Unmarshal([]byte{0x08, 0x63}, &m))
	require.Equal(t, pb.OperationResult(99), m.GetResult())
}

// TestSchemaIsTheProtocol compares the schema with the protocol's numbers, names and types, spelled out.
func TestSchemaIsTheProtocol(t *testing.T) {
	file := pb.File_goeventstore_tcp_v1_messages_proto
	messages, enums := map[protoreflect.Name]string{}, map[protoreflect.FullName]string{}
	addEnums := func(list protoreflect.EnumDescriptors) {
		for i := range list.Len() {
			e := list.Get(i)
			enums[e.FullName()[len(prefix)+1:]] = describeEnum(e)
		}
	}
	addEnums(file.Enums())
	for i := range file.Messages().Len() {
		m := file.Messages().Get(i)
		messages[m.Name()] = describeMessage(m)
		addEnums(m.Enums())
	}
	require.Equal(t, protocol, messages)
	require.Equal(t, values, enums)
}

func describeMessage(m protoreflect.MessageDescriptor) string {
	var fields []string
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		kind := f.Kind().String()
		if f.Message() != nil {
			kind = string(f.Message().Name())
		}
		if f.IsList() {
			kind += " *"
		}
		fields = append(fields, fmt.Sprintf("%d %s %s", f.Number(), f.Name(), kind))
	}
	return strings.Join(fields, "; ")
}

func describeEnum(e protoreflect.EnumDescriptor) string {
	var list []string
	for i := range e.Values().Len() {
		list = append(list, fmt.Sprintf("%d %s", e.Values().Get(i).Number(), e.Values().Get(i).Name()))
	}
	return strings.Join(list, "; ")
}
