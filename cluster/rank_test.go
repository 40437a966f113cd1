package cluster

import (
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
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

// The exact tables: that of writers and that of readers are the ones that EventStore clients have always had, up to Initializing.
// Equals stand in brackets. What is in no table comes last, and both vocabularies mean the same.
func TestTheOrderOfTheStates(t *testing.T) {
	old := strings.NewReplacer("PreLeader", "PreMaster", "ResigningLeader", "ResigningLeader", "ReadOnlyLeaderless", "ReadOnlyLeaderless",
		"DiscoverLeader", "DiscoverLeader", "Leader", "Master", "Follower", "Slave")
	for preference, table := range map[Preference]string{
		Leader: "Leader PreLeader Follower Clone CatchingUp PreReplica [Unknown DiscoverLeader] Initializing ReadOnlyReplica " +
			"[PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader] [Dreaming Waiting]",
		Follower: "Follower Leader ReadOnlyReplica PreLeader Clone CatchingUp PreReplica [Unknown DiscoverLeader] Initializing " +
			"[PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader] [Dreaming Waiting]",
		ReadOnlyReplica: "ReadOnlyReplica Follower Leader PreLeader Clone CatchingUp PreReplica [Unknown DiscoverLeader] Initializing " +
			"[PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader] [Dreaming Waiting]",
		Random: "[Leader Follower ReadOnlyReplica] PreLeader Clone CatchingUp PreReplica [Unknown DiscoverLeader] Initializing " +
			"[PreReadOnlyReplica ReadOnlyLeaderless ResigningLeader] [Dreaming Waiting]",
	} {
		for _, spelled := range []string{table, old.Replace(table)} {
			rank, equals := 1, false
			for state := range strings.FieldsSeq(spelled) {
				equals = equals || strings.HasPrefix(state, "[")
				require.Equal(t, rank, preference.rank(strings.Trim(state, "[]")), "%v: %s", preference, state)
				if equals = equals && !strings.HasSuffix(state, "]"); !equals {
					rank++
				}
			}
		}
	}
	// As they were numbered.
	for rank, state := range []string{"Master", "PreMaster", "Slave", "Clone", "CatchingUp", "PreReplica", "Unknown", "Initializing", "ReadOnlyReplica", "ResigningLeader", "?"} {
		require.Equal(t, rank+1, Leader.rank(state))
	}
}

// picker has no seed that answers.
func picker(t *testing.T, cfg Config) *Gossip {
	t.Helper()
	cfg.Seeds = []string{"nobody:1"}
	return gossip(t, cfg)
}

// picked are all that are ever picked.
func picked(t *testing.T, cfg Config, members []Member) string {
	t.Helper()
	got := map[string]bool{}
	g := picker(t, cfg)
	for range 100 {
		got[g.choose(members, cfg.Preference, nil).addr] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(got)), " ")
}

// Every document that was recorded, with what is to be picked of it.
func TestEveryRecordedDocument(t *testing.T) {
	table, err := os.ReadFile(filepath.Join("testdata", "choices.tsv"))
	require.NoError(t, err)
	files, err := filepath.Glob(filepath.Join("testdata", "*-*", "*.json"))
	require.NoError(t, err)
	require.Len(t, files, 153)
	left := make(map[string]bool)
	for _, file := range files {
		left[filepath.ToSlash(file)] = true
	}
	for line := range strings.Lines(string(table)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		row := strings.Split(strings.TrimSpace(line), "\t")
		m := members(t, row[0])
		delete(left, "testdata/"+row[0])
		for preference, column := range map[Preference]int{Leader: 1, Follower: 2, ReadOnlyReplica: 2, Random: 3} {
			addrs := func(port string) string {
				var all []string
				for node := range strings.SplitSeq(row[column], "") {
					all = append(all, "127.0.0.1:41"+node+port)
				}
				return strings.Join(all, " ")
			}
			require.Equal(t, addrs("13"), picked(t, Config{Preference: preference}, m), "%s, %v", row[0], preference)
			secure := ""
			if strings.Contains(row[0], "secure-") {
				secure = addrs("15")
			}
			require.Equal(t, secure, picked(t, Config{Preference: preference, Secure: true}, m), "%s, %v, with TLS", row[0], preference)
		}
	}
	require.Empty(t, left, "of these the table says nothing")
}

// Documents that were not recorded, and what the error has when nobody fits.
func TestPick(t *testing.T) {
	tests := []struct {
		file       string
		preference Preference
		secure     bool
		want       string
		says       []string // or the error
	}{
		{file: "cluster-4.1.4/steady-n2-01.json", secure: true, says: []string{`127.0.0.1:41313 ("Master") offers no TLS over TCP, only plain at 127.0.0.1:41313`, `("Slave")`}},
		{file: "cluster-4.1.4/lone-node.json", secure: true, says: []string{`127.0.0.1:41822 ("Manager") dead`, `127.0.0.1:41722 ("Manager") dead`, `127.0.0.1:41613 ("Unknown") offers no TLS`}},
		{file: "leader-20.json", secure: true, want: "node2.example:1113"},
		{file: "leader-20.json", secure: true, preference: Follower, want: "node1.example:1113"},
		{file: "leader-20.json", secure: true, preference: ReadOnlyReplica, want: "node3.example:1113"},
		{file: "leader-20.json", secure: true, preference: Random, want: "node1.example:1113 node2.example:1113 node3.example:1113"},
		{file: "leader-20.json", says: []string{`node2.example:1113 ("Leader") offers no plain TCP, only TLS at node2.example:1113`}},
		{file: "odd.json", want: "10.0.0.1:1113"},
		{file: "odd.json", secure: true, says: []string{"offers no TCP", `[::1]:1113 ("") dead`, "without an address"}},
	}
	for _, tt := range tests {
		m := members(t, tt.file)
		require.Equal(t, tt.want, picked(t, Config{Preference: tt.preference, Secure: tt.secure}, m), tt.file)
		c := picker(t, Config{Secure: tt.secure}).choose(m, tt.preference, nil)
		if tt.says == nil {
			continue
		}
		err := error(&NoNodeError{Members: m, why: c.why})
		require.ErrorIs(t, err, ErrNoNode)
		for _, says := range tt.says {
			require.ErrorContains(t, err, says)
		}
		require.Len(t, c.why, len(m))
	}
}

func TestWhoNeverServesIsNeverPicked(t *testing.T) {
	var all []Member
	for _, state := range []string{"Manager", "ShuttingDown", "Shutdown"} {
		all = append(all, Member{State: state, Alive: true, TCP: "a:1", Secure: "a:2"})
	}
	c := picker(t, Config{}).choose(all, Random, nil)
	require.Empty(t, c.addr)
	require.ErrorContains(t, &NoNodeError{why: c.why}, `a:1 ("Manager") takes no clients; a:1 ("Shutdown") takes no clients; a:1 ("ShuttingDown") takes no clients`)
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
	recorded, err := filepath.Glob("testdata/*/*.json")
	require.NoError(f, err)
	require.NotEmpty(f, recorded)
	for _, file := range append(files, recorded...) {
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
		for p := Leader; p <= Random; p++ {
			for _, secure := range []bool{false, true} {
				g, err := NewGossip(Config{Seeds: []string{"nobody:1"}, Secure: secure})
				require.NoError(t, err)
				c := g.choose(m, p, nil)
				if c.addr == "" {
					require.Len(t, c.why, len(m), "each is accounted for")
					continue
				}
				_, _, err = net.SplitHostPort(c.addr)
				require.NoError(t, err)
				require.Less(t, len(c.why), len(m))
				require.GreaterOrEqual(t, c.rank, wanted)
			}
		}
	})
}
