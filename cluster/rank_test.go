package cluster

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func members(t *testing.T, file string) []Member {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	require.NoError(t, err)
	m, err := parse(b)
	require.NoError(t, err)
	return m
}

// The order that EventStore clients have always ranked the states in: for one that writes, and for one that reads.
func TestTheOrderOfTheStates(t *testing.T) {
	tests := []struct {
		preference Preference
		states     string
	}{
		{Leader, "Master PreMaster Slave Clone CatchingUp PreReplica Unknown Initializing Dreaming"},
		{Follower, "Slave Master PreMaster Clone CatchingUp PreReplica Unknown Initializing Dreaming"},
		{Leader, "Leader PreLeader Follower Clone ReadOnlyReplica ResigningLeader CatchingUp PreReplica PreReadOnlyReplica ReadOnlyLeaderless Unknown DiscoverLeader Initializing Dreaming"},
		{Follower, "Follower Leader PreLeader Clone ReadOnlyReplica"},
		{ReadOnlyReplica, "ReadOnlyReplica Follower Leader PreLeader Clone"},
		{Random, "Leader PreLeader Clone"},
		{Random, "Follower PreLeader Clone"},
		{Random, "ReadOnlyReplica PreLeader Clone"},
	}
	for _, tt := range tests {
		states := strings.Fields(tt.states)
		for i := 1; i < len(states); i++ {
			require.Less(t, tt.preference.rank(states[i-1]), tt.preference.rank(states[i]), "%v: %s before %s", tt.preference, states[i-1], states[i])
		}
	}
	require.Equal(t, Random.rank("Leader"), Random.rank("Follower"))
	require.Equal(t, Random.rank("Slave"), Random.rank("ReadOnlyReplica"))
}

func TestPick(t *testing.T) {
	tests := []struct {
		file       string
		preference Preference
		secure     bool
		want       []string // each is met in many picks, nothing else is
		says       []string // or the error
	}{
		{file: "steady-n2-01.json", want: []string{"127.0.0.1:41313"}},
		{file: "steady-n2-01.json", preference: Follower, want: []string{"127.0.0.1:41113", "127.0.0.1:41213"}},
		{file: "steady-n2-01.json", preference: ReadOnlyReplica, want: []string{"127.0.0.1:41113", "127.0.0.1:41213"}},
		{file: "steady-n2-01.json", preference: Random, want: []string{"127.0.0.1:41113", "127.0.0.1:41213", "127.0.0.1:41313"}},
		{file: "steady-n2-01.json", secure: true, says: []string{`127.0.0.1:41313 ("Master") offers no TLS over TCP, only plain at 127.0.0.1:41313`, `("Slave")`}},
		{file: "secure-n1.json", secure: true, want: []string{"127.0.0.1:41115"}},
		{file: "secure-n1.json", want: []string{"127.0.0.1:41113"}},
		{file: "kill-n1-02.json", want: []string{"127.0.0.1:41113", "127.0.0.1:41213"}},
		{file: "back-n2-01.json", want: []string{"127.0.0.1:41213"}},
		{file: "back-n2-01.json", preference: Follower, want: []string{"127.0.0.1:41113"}},
		{file: "noquorum-n2-03.json", want: []string{"127.0.0.1:41213"}},
		{file: "clone-n1.json", want: []string{"127.0.0.1:41213"}},
		{file: "start-n1-03.json", want: []string{"127.0.0.1:41113", "127.0.0.1:41313"}},
		{file: "lone-node.json", want: []string{"127.0.0.1:41613"}},
		{file: "lone-node.json", secure: true, says: []string{`127.0.0.1:41822 ("Manager") dead`, `127.0.0.1:41722 ("Manager") dead`, `127.0.0.1:41613 ("Unknown") offers no TLS`}},
		{file: "single-gossip-on.json", preference: Follower, want: []string{"127.0.0.1:41613"}},
		{file: "leader-20.json", secure: true, want: []string{"node2.example:1113"}},
		{file: "leader-20.json", secure: true, preference: ReadOnlyReplica, want: []string{"node3.example:1113"}},
		{file: "leader-20.json", says: []string{`node2.example:1113 ("Leader") offers no plain TCP, only TLS at node2.example:1113`}},
		{file: "odd.json", want: []string{"10.0.0.1:1113"}},
		{file: "odd.json", secure: true, says: []string{"offers no TCP", `[::1]:1113 ("") dead`, "without an address"}},
	}
	for _, tt := range tests {
		got := map[string]bool{}
		for range 100 {
			addr, err := pick(members(t, tt.file), tt.preference, tt.secure)
			if tt.says != nil {
				require.ErrorIs(t, err, ErrNoNode)
				for _, says := range tt.says {
					require.ErrorContains(t, err, says)
				}
				var none *NoNodeError
				require.ErrorAs(t, err, &none)
				require.Len(t, none.Members, len(members(t, tt.file)))
				continue
			}
			require.NoError(t, err, tt.file)
			got[addr] = true
		}
		require.Len(t, got, len(tt.want), "%s, %v: %v", tt.file, tt.preference, got)
		for _, addr := range tt.want {
			require.True(t, got[addr], "%s, %v: %v", tt.file, tt.preference, got)
		}
	}
}

func TestWhoNeverServesIsNeverPicked(t *testing.T) {
	var all []Member
	for _, state := range []string{"Manager", "ShuttingDown", "Shutdown"} {
		all = append(all, Member{State: state, Alive: true, TCP: "a:1", Secure: "a:2"})
	}
	_, err := pick(all, Random, false)
	require.ErrorIs(t, err, ErrNoNode)
	require.ErrorContains(t, err, `a:1 ("Manager") takes no clients; a:1 ("Shutdown") takes no clients; a:1 ("ShuttingDown") takes no clients`)
}

func TestPreferencesAreReadAsTheyAreWritten(t *testing.T) {
	for p := Leader; p <= Random; p++ {
		got, err := ParsePreference(strings.ToUpper(p.String()))
		require.NoError(t, err)
		require.Equal(t, p, got)
	}
	for name, want := range map[string]Preference{"Master": Leader, "Slave": Follower} {
		got, err := ParsePreference(name)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	_, err := ParsePreference("king")
	require.ErrorContains(t, err, `"king": want leader`)
	require.Equal(t, "Preference(9)", Preference(9).String())
}

// FuzzParse: whatever a node answers is an error or members that can be shown and picked from.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.json")
	require.NoError(f, err)
	for _, file := range files {
		b, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(b)
	}
	f.Add([]byte(`{"members":[null,{"state":1}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		require.NotEmpty(t, m)
		require.LessOrEqual(t, len(m), maxMembers)
		for _, secure := range []bool{false, true} {
			addr, err := pick(m, Leader, secure)
			require.NotEqual(t, err == nil, addr == "")
			require.True(t, err == nil || errors.Is(err, ErrNoNode))
		}
	})
}
