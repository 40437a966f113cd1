package messages

// DecodeAppeared reads the body of StreamEventAppeared into e.
func DecodeAppeared(b []byte, names *Names, e *ResolvedEvent) error {
	*e = ResolvedEvent{}
	f := fields{rest: b}
	for f.next() {
		if f.is(1, text) {
			if err := e.Decode(f.b, names); err != nil {
				return err
			}
		}
	}
	return f.fail("StreamEventAppeared")
}

// AppendAppeared appends the body of StreamEventAppeared; event and link are encoded records, nil when there is none.
func AppendAppeared(b []byte, event, link []byte, commit, prepare int64) []byte {
	return AppendResolved(b, 1, event, link, commit, prepare)
}
