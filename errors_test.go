package eventstore

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestARefusedSystemStreamIsExplained(t *testing.T) {
	refused := fmt.Errorf("%w: by somebody", ErrAccessDenied)
	for stream, explained := range map[string]bool{"$ce-account": true, "$$account-1": true, "account-1": false, "": false, All: false} {
		err := &OpError{Op: "read", Stream: stream, Err: refused}
		require.ErrorIs(t, err, ErrAccessDenied)
		if explained {
			require.ErrorContains(t, err, "access denied: by somebody (streams whose names begin with $ are for administrators", stream)
		} else {
			require.NotContains(t, err.Error(), "administrators", stream)
		}
	}
	require.NotContains(t, (&OpError{Op: "read", Stream: "$ce-account", Err: errors.New("lost")}).Error(), "administrators")
}
