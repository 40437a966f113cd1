package pb_test

import "google.golang.org/protobuf/reflect/protoreflect"

// protocol is the protocol's own list of messages: number, name and type of every field.
var protocol = map[protoreflect.Name]string{
	"NewEvent": "1 event_id bytes; 2 event_type string; 3 data_content_type int32; 4 metadata_content_type int32; " +
		"5 data bytes; 6 metadata bytes",
	"EventRecord": "1 event_stream_id string; 2 event_number int64; 3 event_id bytes; 4 event_type string; " +
		"5 data_content_type int32; 6 metadata_content_type int32; 7 data bytes; 8 metadata bytes; " +
		"9 created int64; 10 created_epoch int64",
	"ResolvedIndexedEvent": "1 event EventRecord; 2 link EventRecord",
	"ResolvedEvent":        "1 event EventRecord; 2 link EventRecord; 3 commit_position int64; 4 prepare_position int64",
	"WriteEvents":          "1 event_stream_id string; 2 expected_version int64; 3 events NewEvent *; 4 require_leader bool",
	"WriteEventsCompleted": "1 result enum; 2 message string; 3 first_event_number int64; 4 last_event_number int64; " +
		"5 prepare_position int64; 6 commit_position int64; 7 current_version int64",
	"DeleteStream": "1 event_stream_id string; 2 expected_version int64; 3 require_leader bool; 4 hard_delete bool",
	"DeleteStreamCompleted": "1 result enum; 2 message string; 3 prepare_position int64; 4 commit_position int64; " +
		"5 current_version int64",
	"TransactionStart":          "1 event_stream_id string; 2 expected_version int64; 3 require_leader bool",
	"TransactionStartCompleted": "1 transaction_id int64; 2 result enum; 3 message string",
	"TransactionWrite":          "1 transaction_id int64; 2 events NewEvent *; 3 require_leader bool",
	"TransactionWriteCompleted": "1 transaction_id int64; 2 result enum; 3 message string",
	"TransactionCommit":         "1 transaction_id int64; 2 require_leader bool",
	"TransactionCommitCompleted": "1 transaction_id int64; 2 result enum; 3 message string; 4 first_event_number int64; " +
		"5 last_event_number int64; 6 prepare_position int64; 7 commit_position int64",
	"ReadEvent":          "1 event_stream_id string; 2 event_number int64; 3 resolve_link_tos bool; 4 require_leader bool",
	"ReadEventCompleted": "1 result enum; 2 event ResolvedIndexedEvent; 3 error string",
	"ReadStreamEvents": "1 event_stream_id string; 2 from_event_number int64; 3 max_count int32; 4 resolve_link_tos bool; " +
		"5 require_leader bool",
	"ReadStreamEventsCompleted": "1 events ResolvedIndexedEvent *; 2 result enum; 3 next_event_number int64; " +
		"4 last_event_number int64; 5 is_end_of_stream bool; 6 last_commit_position int64; 7 error string",
	"ReadAllEvents": "1 commit_position int64; 2 prepare_position int64; 3 max_count int32; 4 resolve_link_tos bool; " +
		"5 require_leader bool",
	"ReadAllEventsCompleted": "1 commit_position int64; 2 prepare_position int64; 3 events ResolvedEvent *; " +
		"4 next_commit_position int64; 5 next_prepare_position int64; 6 result enum; 7 error string",
	"Filter": "1 context enum; 2 type enum; 3 data string *",
	"FilteredReadAllEvents": "1 commit_position int64; 2 prepare_position int64; 3 max_count int32; 4 max_search_window int32; " +
		"5 resolve_link_tos bool; 6 require_leader bool; 7 filter Filter",
	"FilteredReadAllEventsCompleted": "1 commit_position int64; 2 prepare_position int64; 3 events ResolvedEvent *; " +
		"4 next_commit_position int64; 5 next_prepare_position int64; 6 is_end_of_stream bool; " +
		"7 result enum; 8 error string",
	"SubscribeToStream":         "1 event_stream_id string; 2 resolve_link_tos bool",
	"SubscriptionConfirmation":  "1 last_commit_position int64; 2 last_event_number int64",
	"StreamEventAppeared":       "1 event ResolvedEvent",
	"UnsubscribeFromStream":     "",
	"SubscriptionDropped":       "1 reason enum",
	"FilteredSubscribeToStream": "1 event_stream_id string; 2 resolve_link_tos bool; 3 filter Filter; 4 checkpoint_interval int32",
	"CheckpointReached":         "1 commit_position int64; 2 prepare_position int64",
	"CreatePersistentSubscription": "1 subscription_group_name string; 2 event_stream_id string; 3 resolve_link_tos bool; " +
		"4 start_from int64; 5 message_timeout_milliseconds int32; 6 record_statistics bool; " +
		"7 live_buffer_size int32; 8 read_batch_size int32; 9 buffer_size int32; 10 max_retry_count int32; " +
		"11 prefer_round_robin bool; 12 checkpoint_after_time int32; 13 checkpoint_max_count int32; " +
		"14 checkpoint_min_count int32; 15 subscriber_max_count int32; 16 named_consumer_strategy string",
	"CreatePersistentSubscriptionCompleted": "1 result enum; 2 reason string",
	"UpdatePersistentSubscription": "1 subscription_group_name string; 2 event_stream_id string; 3 resolve_link_tos bool; " +
		"4 start_from int64; 5 message_timeout_milliseconds int32; 6 record_statistics bool; " +
		"7 live_buffer_size int32; 8 read_batch_size int32; 9 buffer_size int32; 10 max_retry_count int32; " +
		"11 prefer_round_robin bool; 12 checkpoint_after_time int32; 13 checkpoint_max_count int32; " +
		"14 checkpoint_min_count int32; 15 subscriber_max_count int32; 16 named_consumer_strategy string",
	"UpdatePersistentSubscriptionCompleted":     "1 result enum; 2 reason string",
	"DeletePersistentSubscription":              "1 subscription_group_name string; 2 event_stream_id string",
	"DeletePersistentSubscriptionCompleted":     "1 result enum; 2 reason string",
	"ConnectToPersistentSubscription":           "1 subscription_id string; 2 event_stream_id string; 3 allowed_in_flight_messages int32",
	"PersistentSubscriptionConfirmation":        "1 last_commit_position int64; 2 subscription_id string; 3 last_event_number int64",
	"PersistentSubscriptionAckEvents":           "1 subscription_id string; 2 processed_event_ids bytes *",
	"PersistentSubscriptionNakEvents":           "1 subscription_id string; 2 processed_event_ids bytes *; 3 message string; 4 action enum",
	"PersistentSubscriptionStreamEventAppeared": "1 event ResolvedIndexedEvent; 2 retryCount int32",
	"NotHandled": "1 reason enum; 2 additional_info bytes",
	"LeaderInfo": "1 external_tcp_address string; 2 external_tcp_port int32; 3 http_address string; 4 http_port int32; " +
		"5 external_secure_tcp_address string; 6 external_secure_tcp_port int32",
	"ScavengeDatabase":          "",
	"ScavengeDatabaseCompleted": "1 result enum; 2 error string; 3 total_time_ms int32; 4 total_space_saved int64",
	"ScavengeDatabaseResponse":  "1 result enum; 2 scavengeId string",
	"IdentifyClient":            "1 version int32; 2 connection_name string",
	"ClientIdentified":          "",
}

// values is the protocol's own list of enums. Those of one message are named with it.
var values = map[protoreflect.FullName]string{
	"OperationResult": "0 Success; 1 PrepareTimeout; 2 CommitTimeout; 3 ForwardTimeout; 4 WrongExpectedVersion; " +
		"5 StreamDeleted; 6 InvalidTransaction; 7 AccessDenied",
	"ReadEventCompleted.ReadEventResult":                   "0 Success; 1 NotFound; 2 NoStream; 3 StreamDeleted; 4 Error; 5 AccessDenied",
	"ReadStreamEventsCompleted.ReadStreamResult":           "0 Success; 1 NoStream; 2 StreamDeleted; 3 NotModified; 4 Error; 5 AccessDenied",
	"ReadAllEventsCompleted.ReadAllResult":                 "0 Success; 1 NotModified; 2 Error; 3 AccessDenied",
	"FilteredReadAllEventsCompleted.FilteredReadAllResult": "0 Success; 1 NotModified; 2 Error; 3 AccessDenied",
	"Filter.FilterContext":                                 "0 StreamId; 1 EventType",
	"Filter.FilterType":                                    "0 Regex; 1 Prefix",
	"SubscriptionDropped.SubscriptionDropReason": "0 Unsubscribed; 1 AccessDenied; 2 NotFound; 3 PersistentSubscriptionDeleted; " +
		"4 SubscriberMaxCountReached",
	"CreatePersistentSubscriptionCompleted.CreatePersistentSubscriptionResult": "0 Success; 1 AlreadyExists; 2 Fail; 3 AccessDenied",
	"UpdatePersistentSubscriptionCompleted.UpdatePersistentSubscriptionResult": "0 Success; 1 DoesNotExist; 2 Fail; 3 AccessDenied",
	"DeletePersistentSubscriptionCompleted.DeletePersistentSubscriptionResult": "0 Success; 1 DoesNotExist; 2 Fail; 3 AccessDenied",
	"PersistentSubscriptionNakEvents.NakAction":                                "0 Unknown; 1 Park; 2 Retry; 3 Skip; 4 Stop",
	"NotHandled.NotHandledReason":                                              "0 NotReady; 1 TooBusy; 2 NotLeader; 3 IsReadOnly",
	"ScavengeDatabaseCompleted.ScavengeResult":                                 "0 Success; 1 InProgress; 2 Failed",
	"ScavengeDatabaseResponse.ScavengeResult":                                  "0 Started; 1 InProgress; 2 Unauthorized",
}
