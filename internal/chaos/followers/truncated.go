package followers

import (
	"fmt"

	"github.com/stretchr/testify/require"
)

// truncate hides a part of the stream that is followed: so many of a hundred of its events, but never the last one. Who has not come
// so far does not get them any more.
func (r *Run) truncate(percent int) {
	r.past = r.whole()
	if len(r.past) < 2 {
		return
	}
	behind := r.past[(len(r.past)-1)*percent/100].behind
	number, _ := behind.Number()
	r.tape.add(entry{verb: truncates, place: behind, text: fmt.Sprintf("up to %v", behind)})
	if err := r.sound.TruncateBefore(r.T.Context(), r.source.Stream, number+1); err != nil {
		r.problem("truncate: %v", err)
	}
}

// whole is what the source has, with what was truncated.
func (r *Run) whole() []sight {
	there := r.read()
	if len(r.past) == 0 {
		return there
	}
	all := r.past
	last := all[len(all)-1].behind
	for i := range there {
		c, err := there[i].behind.Compare(last)
		require.NoError(r.T, err)
		if c > 0 {
			return append(all, there[i:]...)
		}
	}
	return all
}

// truncated notes what nobody has to get any more.
func (c *checker) truncated(e *entry) string {
	at, err := c.index(e.place)
	if err != nil {
		return err.Error()
	}
	c.gone = max(c.gone, at)
	return ""
}
