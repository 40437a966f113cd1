package admin

import (
	"context"
	"net/http"
	"time"
)

// User is somebody who can sign in.
type User struct {
	Login    string    `json:"loginName"`
	FullName string    `json:"fullName"`
	Groups   []string  `json:"groups"`
	Disabled bool      `json:"disabled"`
	Updated  time.Time `json:"dateLastUpdated"` // zero where the server does not say
}

// NewUser is a user to be made.
type NewUser struct {
	Login    string   `json:"loginName"`
	FullName string   `json:"fullName"`
	Groups   []string `json:"groups"` // $admins and $ops have a meaning of their own
	Password string   `json:"password"`
}

// Users returns all users. Servers before 5.0.2 tell anybody.
func (a *Admin) Users(ctx context.Context) ([]User, error) {
	var answer struct{ Data []User }
	err := a.do(ctx, request{op: "list users", method: http.MethodGet, path: "/users/", into: &answer})
	return answer.Data, err
}

// User returns one user.
func (a *Admin) User(ctx context.Context, login string) (User, error) {
	var answer struct{ Data User }
	err := a.do(ctx, request{op: "get user " + login, method: http.MethodGet, path: segments("users", login), into: &answer})
	return answer.Data, err
}

// CurrentUser returns whom the credentials are of.
func (a *Admin) CurrentUser(ctx context.Context) (User, error) {
	var answer struct{ Data User }
	err := a.do(ctx, request{op: "get current user", method: http.MethodGet, path: "/users/%24current", into: &answer})
	return answer.Data, err
}

// CreateUser makes a user. It succeeds as well when there is one with this login and password; with another password it
// is ErrConflict.
func (a *Admin) CreateUser(ctx context.Context, u NewUser) error {
	if u.Groups == nil {
		u.Groups = []string{}
	}
	return a.do(ctx, request{op: "create user " + u.Login, method: http.MethodPost, path: "/users/", body: u})
}

// UpdateUser replaces a user's full name and groups.
func (a *Admin) UpdateUser(ctx context.Context, login, fullName string, groups []string) error {
	if groups == nil {
		groups = []string{}
	}
	body := struct {
		FullName string   `json:"fullName"`
		Groups   []string `json:"groups"`
	}{fullName, groups}
	return a.do(ctx, request{op: "update user " + login, method: http.MethodPut, path: segments("users", login), body: body})
}

// DeleteUser deletes a user. The login can be used again.
func (a *Admin) DeleteUser(ctx context.Context, login string) error {
	return a.do(ctx, request{op: "delete user " + login, method: http.MethodDelete, path: segments("users", login)})
}

// EnableUser lets a user in again.
func (a *Admin) EnableUser(ctx context.Context, login string) error {
	return a.userCommand(ctx, login, "enable", nil)
}

// DisableUser lets a user in no more. A real server may remember a password for up to a second.
func (a *Admin) DisableUser(ctx context.Context, login string) error {
	return a.userCommand(ctx, login, "disable", nil)
}

// ChangePassword replaces a user's password, for anybody who knows it. A wrong one is ErrAccessDenied.
func (a *Admin) ChangePassword(ctx context.Context, login, current, password string) error {
	return a.userCommand(ctx, login, "change-password", struct {
		Current string `json:"currentPassword"`
		New     string `json:"newPassword"`
	}{current, password})
}

// ResetPassword replaces a user's password. For administrators.
func (a *Admin) ResetPassword(ctx context.Context, login, password string) error {
	return a.userCommand(ctx, login, "reset-password", struct {
		New string `json:"newPassword"`
	}{password})
}

func (a *Admin) userCommand(ctx context.Context, login, command string, body any) error {
	return a.do(ctx, request{op: command + " of user " + login, method: http.MethodPost, path: segments("users", login, "command", command), body: body})
}
