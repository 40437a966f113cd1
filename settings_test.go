package eventstore

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var code = regexp.MustCompile("`([^`]+)`")

// tables reads docs/settings.md: by heading, the rows of the table there.
func tables(t *testing.T) map[string][][]string {
	t.Helper()
	b, err := os.ReadFile("docs/settings.md")
	require.NoError(t, err)
	found := make(map[string][][]string)
	heading := ""
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		switch {
		case strings.HasPrefix(line, "## "):
			heading = line[3:]
		case strings.HasPrefix(line, "|---"):
			found[heading] = nil // what came before is the table's head
		case strings.HasPrefix(line, "|"):
			found[heading] = append(found[heading], strings.Split(strings.Trim(line, "| "), " | "))
		}
	}
	return found
}

// The documentation has every key of a target, its option and default, and none that there is not.
func TestTheTableOfKeysIsComplete(t *testing.T) {
	source, err := os.ReadFile("options.go")
	require.NoError(t, err)
	documented := make(map[string]bool)
	for _, row := range tables(t)["Keys of a target"] {
		name := strings.Trim(row[0], "`")
		require.NotNil(t, keyNamed(name), name)
		documented[name] = true
		for _, option := range code.FindAllStringSubmatch(row[2], -1) {
			require.Contains(t, string(source), "func "+option[1]+"(")
		}
	}
	require.ElementsMatch(t, keyNames(), slices.Collect(maps.Keys(documented)))
}

func TestTheTableOfConnectionStringsIsComplete(t *testing.T) {
	documented := make(map[string]bool)
	for _, row := range tables(t)["Settings of the .NET client"] {
		name := strings.Trim(row[0], "`")
		k := netKeyNamed(name)
		require.NotNil(t, k, name)
		documented[name] = true
		if k.key != "" {
			require.Contains(t, row[1], "`"+k.key+"`", name)
		}
		if k.note != "" {
			require.Contains(t, row[1], k.note, name)
		}
	}
	require.ElementsMatch(t, netKeyNames(), slices.Collect(maps.Keys(documented)))
}

// Each setting of Extreme has its place: a target that is one, an option that there is, or a reason for none.
func TestEverySettingOfExtremeHasItsPlace(t *testing.T) {
	source, err := os.ReadFile("options.go")
	require.NoError(t, err)
	var settings []string
	for _, row := range tables(t)["Settings of Extreme"] {
		settings = append(settings, row[0])
		places := 0
		for _, place := range code.FindAllStringSubmatch(row[1], -1) {
			switch text := place[1]; {
			case strings.Contains(text, "://"):
				_, err := ParseTarget(text)
				require.NoError(t, err, text)
				places++
			case strings.HasPrefix(text, "With"), text == "As":
				require.Contains(t, string(source), "func "+text+"(")
				places++
			}
		}
		require.True(t, places > 0 || strings.HasPrefix(row[1], "none: "), row)
	}
	for _, setting := range []string{
		"db_type: :node", "db_type: :cluster`", "db_type: :cluster_dns", "host", "port", "username", "password", "reconnect_delay",
		"max_attempts", "connection_name", "nodes", "gossip_timeout", "mode: :write", "mode: :read", "read_only", "otp_app", "transport", "transport_opts",
	} {
		require.Contains(t, strings.Join(settings, " "), setting)
	}
}

func TestTheTargetsInTheDocumentationAreTargets(t *testing.T) {
	for _, row := range tables(t)["Targets"] {
		target, err := ParseTarget(strings.Trim(row[0], "`"))
		require.NoError(t, err)
		require.Equal(t, strings.Replace(strings.Trim(row[0], "`"), ":password@", ":xxxxx@", 1), target.String())
	}
}

// Every target in docs/cluster.md is one, and every setting there is a key of a target or an option.
func TestTheGuideToClustersIsRight(t *testing.T) {
	b, err := os.ReadFile("docs/cluster.md")
	require.NoError(t, err)
	source, err := os.ReadFile("options.go")
	require.NoError(t, err)
	targets, settings := 0, 0
	prose := regexp.MustCompile("(?s)```.*?```").ReplaceAllString(string(b), "")
	for _, span := range code.FindAllStringSubmatch(prose, -1) {
		text := span[1]
		switch {
		case strings.Contains(text, "://") && !strings.HasSuffix(text, "://"):
			_, err := ParseTarget(text)
			require.NoError(t, err, text)
			targets++
		case strings.HasPrefix(text, "With"):
			require.Contains(t, string(source), "func "+text+"(")
			settings++
		}
	}
	require.Greater(t, targets, 5)
	require.Greater(t, settings, 2)
	rows := 0
	for line := range strings.Lines(prose[strings.Index(prose, "| setting |"):]) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		rows++
		for _, name := range code.FindAllStringSubmatch(strings.Split(line, "|")[1], -1) {
			require.True(t, keyNamed(name[1]) != nil || strings.HasPrefix(name[1], "With"), name[1])
		}
	}
	require.Equal(t, 7, rows)
}

func TestTheNearestName(t *testing.T) {
	require.NotEmpty(t, nearest(strings.Repeat("x", 10_000), keyNames()))
	require.Equal(t, "name", nearest("nam", keyNames()))
	require.Equal(t, "timeout", nearest("time_out", keyNames()))
	require.Equal(t, "HeartbeatTimeout", nearest("HeartbeatTimout", netKeyNames()))
}
