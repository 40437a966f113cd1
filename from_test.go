package eventstore_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/goeventstore/eventstore"
)

func TestFromAsText(t *testing.T) {
	p := eventstore.Position{Commit: 12, Prepare: 7}
	for text, from := range map[string]eventstore.From{
		"start":                     eventstore.Start,
		"end":                       eventstore.End,
		"at 0":                      eventstore.At(0),
		"after 0":                   eventstore.After(0),
		"after 9223372036854775807": eventstore.After(math.MaxInt64),
		"at C:12/P:7":               eventstore.AtPosition(p),
		"after C:12/P:7":            eventstore.AfterPosition(p),
	} {
		b, err := from.MarshalText()
		require.NoError(t, err)
		require.Equal(t, text, string(b))
		var back eventstore.From
		require.NoError(t, back.UnmarshalText(b))
		require.Equal(t, from, back)
	}
	require.True(t, eventstore.From{}.IsStart(), "the zero value")
	for _, bad := range []string{"", "at", "at -1", "after x", "behind 5", "at C:1", "at C:1/P:", "after C:-1/P:1", "5", "at 5 6", "at 99999999999999999999"} {
		var f eventstore.From
		err := f.UnmarshalText([]byte(bad))
		require.ErrorIs(t, err, eventstore.ErrArgument, bad)
		require.ErrorContains(t, err, bad)
	}
}

func TestFromParts(t *testing.T) {
	n, ok := eventstore.After(5).Number()
	require.True(t, ok)
	require.EqualValues(t, 5, n)
	require.True(t, eventstore.After(5).Exclusive())
	require.False(t, eventstore.At(5).Exclusive())
	_, ok = eventstore.At(5).Position()
	require.False(t, ok)
	_, ok = eventstore.End.Number()
	require.False(t, ok)
	require.True(t, eventstore.End.IsEnd())
}

func TestFromCompare(t *testing.T) {
	ordered := []eventstore.From{
		eventstore.Start, eventstore.At(0), eventstore.After(0), eventstore.At(1), eventstore.After(1), eventstore.End,
	}
	for i, f := range ordered {
		for j, g := range ordered {
			got, err := f.Compare(g)
			require.NoError(t, err)
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			require.Equal(t, want, got, "%v and %v", f, g)
		}
	}
	_, err := eventstore.At(1).Compare(eventstore.AtPosition(eventstore.Position{}))
	require.ErrorIs(t, err, eventstore.ErrArgument)
	got, err := eventstore.AfterPosition(eventstore.Position{Commit: 5, Prepare: 1}).Compare(eventstore.AtPosition(eventstore.Position{Commit: 5, Prepare: 3}))
	require.NoError(t, err)
	require.Equal(t, -1, got)
}
