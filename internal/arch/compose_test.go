package arch_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The servers of compose.yaml are what CONTRIBUTING.md says: the same versions, pinned, reached by this machine alone on the
// ports of the suite's variables.
func TestComposeIsWhatContributingSays(t *testing.T) {
	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join("..", "..", name)) // #nosec G304 -- of this repository
		require.NoError(t, err)
		return string(b)
	}
	all := func(text, pattern string) (found []string) {
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			found = append(found, m[1])
		}
		return found
	}
	compose, contributing := read("compose.yaml"), read("CONTRIBUTING.md")

	profiles := all(compose, `(?m)^    profiles: \["([^"]+)"\]$`)
	require.GreaterOrEqual(t, len(profiles), 6)
	_, list, _ := strings.Cut(contributing, "There are `3.9.3`,")
	list, _, _ = strings.Cut(list, ".\n")
	list, _, _ = strings.Cut(list, ". ")
	require.Equal(t, profiles[1:], all(list, "`([0-9.]+)`"))
	require.Equal(t, "3.9.3", profiles[0])

	require.Equal(t, profiles, all(compose, `(?m)^  eventstore-(\S+):$`))
	images := all(compose, `(?m)^    image: eventstore/eventstore:(\S+)$`)
	require.Len(t, images, len(profiles))
	for i, image := range images {
		require.Regexp(t, `^(release-)?`+regexp.QuoteMeta(profiles[i])+`(\.\d+)?(-|$)`, image)
	}
	require.Len(t, all(compose, `(?m)^    (environment: \*(?:old|insecure))$`), len(profiles))

	ports := all(compose, `(?m)^    - "([0-9.:]+)"$`)
	require.Equal(t, []string{"127.0.0.1:1113:1113", "127.0.0.1:2113:2113"}, ports)
	for variable, scheme := range map[string]string{"EVENTSTORE_TEST_TCP": "tcp://admin:changeit@127.0.0.1:1113", "EVENTSTORE_TEST_HTTP": "http://127.0.0.1:2113"} {
		require.Contains(t, compose, variable+"="+scheme)
		require.Contains(t, contributing, variable+"="+scheme)
	}
}
