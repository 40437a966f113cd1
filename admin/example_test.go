package admin_test

import (
	"context"
	"fmt"

	"github.com/goeventstore/eventstore"
	"github.com/goeventstore/eventstore/admin"
	"github.com/goeventstore/eventstore/server"
)

func Example() {
	srv, err := server.Start(server.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer srv.Close()

	ctx := context.Background()
	a, err := admin.New(srv.HTTPURL(), eventstore.WithCredentials("admin", "changeit"))
	if err != nil {
		fmt.Println(err)
		return
	}
	if err := a.CreateUser(ctx, admin.NewUser{Login: "billing", FullName: "Billing", Groups: []string{"services"}, Password: "s3cret"}); err != nil {
		fmt.Println(err)
		return
	}
	users, err := a.Users(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, u := range users {
		fmt.Println(u.Login, u.Groups)
	}
	// Output:
	// admin [$admins]
	// billing [services]
	// ops [$ops]
}
