package server_test

import (
	"fmt"
	"net/url"

	"github.com/goeventstore/eventstore/server"
)

func ExampleStart() {
	s, err := server.Start(server.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = s.Close() }()

	u, err := url.Parse(s.URL())
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(u.Scheme, u.Hostname())
	// Output: tcp 127.0.0.1
}
