package messages

import "strconv"

// Command is the first byte of a package: what the body is.
type Command byte

// The commands of the client port. Codes 05 to 17 travel between nodes only.
const (
	HeartbeatRequest  Command = 0x01 // either side, any time
	HeartbeatResponse Command = 0x02
	Ping              Command = 0x03
	Pong              Command = 0x04 // the body of the Ping

	WriteEvents                Command = 0x82
	WriteEventsCompleted       Command = 0x83
	TransactionStart           Command = 0x84
	TransactionStartCompleted  Command = 0x85
	TransactionWrite           Command = 0x86
	TransactionWriteCompleted  Command = 0x87
	TransactionCommit          Command = 0x88
	TransactionCommitCompleted Command = 0x89
	DeleteStream               Command = 0x8A
	DeleteStreamCompleted      Command = 0x8B

	ReadEvent                              Command = 0xB0
	ReadEventCompleted                     Command = 0xB1
	ReadStreamEventsForward                Command = 0xB2
	ReadStreamEventsForwardCompleted       Command = 0xB3
	ReadStreamEventsBackward               Command = 0xB4
	ReadStreamEventsBackwardCompleted      Command = 0xB5
	ReadAllEventsForward                   Command = 0xB6
	ReadAllEventsForwardCompleted          Command = 0xB7
	ReadAllEventsBackward                  Command = 0xB8
	ReadAllEventsBackwardCompleted         Command = 0xB9
	FilteredReadAllEventsForward           Command = 0xBA // 20.6 and later, as all filtered ones
	FilteredReadAllEventsForwardCompleted  Command = 0xBB
	FilteredReadAllEventsBackward          Command = 0xBC
	FilteredReadAllEventsBackwardCompleted Command = 0xBE // not BD

	SubscribeToStream                         Command = 0xC0
	SubscriptionConfirmation                  Command = 0xC1
	StreamEventAppeared                       Command = 0xC2
	UnsubscribeFromStream                     Command = 0xC3
	SubscriptionDropped                       Command = 0xC4
	ConnectToPersistentSubscription           Command = 0xC5
	PersistentSubscriptionConfirmation        Command = 0xC6
	PersistentSubscriptionStreamEventAppeared Command = 0xC7
	CreatePersistentSubscription              Command = 0xC8
	CreatePersistentSubscriptionCompleted     Command = 0xC9
	DeletePersistentSubscription              Command = 0xCA
	DeletePersistentSubscriptionCompleted     Command = 0xCB
	PersistentSubscriptionAckEvents           Command = 0xCC
	PersistentSubscriptionNakEvents           Command = 0xCD
	UpdatePersistentSubscription              Command = 0xCE
	UpdatePersistentSubscriptionCompleted     Command = 0xCF

	ScavengeDatabase          Command = 0xD0
	ScavengeDatabaseCompleted Command = 0xD1
	FilteredSubscribeToStream Command = 0xD2
	CheckpointReached         Command = 0xD3

	BadRequest       Command = 0xF0 // the body is UTF-8 text
	NotHandled       Command = 0xF1
	Authenticate     Command = 0xF2 // the credentials are the package's
	Authenticated    Command = 0xF3
	NotAuthenticated Command = 0xF4 // the body is UTF-8 text
	IdentifyClient   Command = 0xF5 // 3.9.4 and later
	ClientIdentified Command = 0xF6
)

var commandNames = [256]string{
	HeartbeatRequest:                          "HeartbeatRequest",
	HeartbeatResponse:                         "HeartbeatResponse",
	Ping:                                      "Ping",
	Pong:                                      "Pong",
	WriteEvents:                               "WriteEvents",
	WriteEventsCompleted:                      "WriteEventsCompleted",
	TransactionStart:                          "TransactionStart",
	TransactionStartCompleted:                 "TransactionStartCompleted",
	TransactionWrite:                          "TransactionWrite",
	TransactionWriteCompleted:                 "TransactionWriteCompleted",
	TransactionCommit:                         "TransactionCommit",
	TransactionCommitCompleted:                "TransactionCommitCompleted",
	DeleteStream:                              "DeleteStream",
	DeleteStreamCompleted:                     "DeleteStreamCompleted",
	ReadEvent:                                 "ReadEvent",
	ReadEventCompleted:                        "ReadEventCompleted",
	ReadStreamEventsForward:                   "ReadStreamEventsForward",
	ReadStreamEventsForwardCompleted:          "ReadStreamEventsForwardCompleted",
	ReadStreamEventsBackward:                  "ReadStreamEventsBackward",
	ReadStreamEventsBackwardCompleted:         "ReadStreamEventsBackwardCompleted",
	ReadAllEventsForward:                      "ReadAllEventsForward",
	ReadAllEventsForwardCompleted:             "ReadAllEventsForwardCompleted",
	ReadAllEventsBackward:                     "ReadAllEventsBackward",
	ReadAllEventsBackwardCompleted:            "ReadAllEventsBackwardCompleted",
	FilteredReadAllEventsForward:              "FilteredReadAllEventsForward",
	FilteredReadAllEventsForwardCompleted:     "FilteredReadAllEventsForwardCompleted",
	FilteredReadAllEventsBackward:             "FilteredReadAllEventsBackward",
	FilteredReadAllEventsBackwardCompleted:    "FilteredReadAllEventsBackwardCompleted",
	SubscribeToStream:                         "SubscribeToStream",
	SubscriptionConfirmation:                  "SubscriptionConfirmation",
	StreamEventAppeared:                       "StreamEventAppeared",
	UnsubscribeFromStream:                     "UnsubscribeFromStream",
	SubscriptionDropped:                       "SubscriptionDropped",
	ConnectToPersistentSubscription:           "ConnectToPersistentSubscription",
	PersistentSubscriptionConfirmation:        "PersistentSubscriptionConfirmation",
	PersistentSubscriptionStreamEventAppeared: "PersistentSubscriptionStreamEventAppeared",
	CreatePersistentSubscription:              "CreatePersistentSubscription",
	CreatePersistentSubscriptionCompleted:     "CreatePersistentSubscriptionCompleted",
	DeletePersistentSubscription:              "DeletePersistentSubscription",
	DeletePersistentSubscriptionCompleted:     "DeletePersistentSubscriptionCompleted",
	PersistentSubscriptionAckEvents:           "PersistentSubscriptionAckEvents",
	PersistentSubscriptionNakEvents:           "PersistentSubscriptionNakEvents",
	UpdatePersistentSubscription:              "UpdatePersistentSubscription",
	UpdatePersistentSubscriptionCompleted:     "UpdatePersistentSubscriptionCompleted",
	ScavengeDatabase:                          "ScavengeDatabase",
	ScavengeDatabaseCompleted:                 "ScavengeDatabaseCompleted",
	FilteredSubscribeToStream:                 "FilteredSubscribeToStream",
	CheckpointReached:                         "CheckpointReached",
	BadRequest:                                "BadRequest",
	NotHandled:                                "NotHandled",
	Authenticate:                              "Authenticate",
	Authenticated:                             "Authenticated",
	NotAuthenticated:                          "NotAuthenticated",
	IdentifyClient:                            "IdentifyClient",
	ClientIdentified:                          "ClientIdentified",
}

// String returns the protocol's name of the command, or its code in hex.
func (c Command) String() string {
	if s := commandNames[c]; s != "" {
		return s
	}
	return "command 0x" + strconv.FormatUint(uint64(c), 16)
}

// Known reports whether c is a command of the client port.
func (c Command) Known() bool { return commandNames[c] != "" }
