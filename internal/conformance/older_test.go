package conformance_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/eventstoretest"
	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/persistent"
)

// The suite expects what 4.1 does. What 3.9.4 does otherwise stands in the tests, behind before40.

// before40 reports a server older than 4.0: its answers to writes have no current_version.
func (p *peer) before40() bool {
	p.t.Helper()
	m := p.append(newStream("version"), -1, uuid.NewString())
	require.Equal(p.t, messages.Success, m.GetResult(), "%s", m.GetMessage())
	return m.CurrentVersion == nil
}

// httpBefore40 is before40 for the tests of HTTP.
func httpBefore40(t *testing.T, a *admin.Admin) bool {
	t.Helper()
	info, err := a.Info(within(t))
	require.NoError(t, err)
	return strings.HasPrefix(info.Version, "3.")
}

// tried checks how often a message was tried before, which older servers do not tell.
func tried(t *testing.T, srv *eventstoretest.Server, want int, m *persistent.Message) {
	t.Helper()
	if m.Retries == 0 && want > 0 && dialPeer(t, srv).before40() {
		return
	}
	require.Equal(t, want, m.Retries)
}
