package eventstore

import (
	"context"

	"github.com/goeventstore/eventstore/messages"
)

// Authenticate asks the server whether it accepts the credentials of the call, or of the client; if not, the error is
// ErrNotAuthenticated. It changes nothing: credentials travel with each request. The protocol's own command of this name would
// make them those of whatever else goes over the connection without any, wrong ones too.
func (c *Client) Authenticate(ctx context.Context, opts ...CallOption) error {
	o, err := c.callOptions(opts)
	if err == nil && o.credentials == nil {
		err = argument("there are no credentials: WithCredentials has them for the client, As for a call")
	}
	if err != nil {
		return &OpError{Op: "authenticate", Err: err}
	}
	_, err = c.exec(ctx, "authenticate", messages.Raw(messages.Ping, nil), o)
	return err
}
