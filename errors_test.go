package eventstore

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARefusedSystemStreamIsExplained(t *testing.T) {
	refused := fmt.Errorf("%w: by somebody", ErrAccessDenied)
	const system, all = " (streams whose names begin with $ are for administrators", " ($all is for administrators"
	for stream, hint := range map[string]string{"$ce-account": system, "$$account-1": system, All: all, "account-1": "", "": ""} {
		read := &OpError{Op: "read", Stream: stream, Err: refused}
		for _, err := range []error{
			read, &OpError{Op: "subscribe", Stream: stream, Err: read}, &OpError{Op: "read", Stream: stream, Err: &OpError{Op: "call", Err: refused}},
		} {
			require.ErrorIs(t, err, ErrAccessDenied)
			if hint != "" {
				require.ErrorContains(t, err, "access denied: by somebody"+hint, stream)
			}
			require.Equal(t, min(len(hint), 1), strings.Count(err.Error(), "administrators"), "%v", err)
		}
	}
	require.NotContains(t, (&OpError{Op: "read", Stream: "$ce-account", Err: errors.New("lost")}).Error(), "administrators")
}
