package server

import (
	"encoding/json"
	"net/http"
	"strings"
)

func (a *httpAPI) userRoutes() []route {
	read := func(path string, serve func(*httpCall) httpAnswer) route {
		return route{method: http.MethodGet, path: path, serve: serve, gives: jsonOnly}
	}
	write := func(method, path string, serve func(*httpCall) httpAnswer) route {
		return route{method: method, path: path, serve: serve, takes: jsonOnly, gives: jsonOnly}
	}
	command := func(name string, do func(*httpCall) userResult) route {
		return route{method: http.MethodPost, path: "/users/{login}/command/" + name, gives: jsonOnly, serve: func(c *httpCall) httpAnswer {
			return c.userChanged(c.vars[0], do(c))
		}}
	}
	return []route{
		read("/users", (*httpCall).listUsers),
		read("/users/", (*httpCall).listUsers),
		read("/users/{login}", (*httpCall).getUser),
		read("/users/$current", (*httpCall).getCurrentUser),
		write(http.MethodPost, "/users", (*httpCall).createUser),
		write(http.MethodPost, "/users/", (*httpCall).createUser),
		write(http.MethodPut, "/users/{login}", (*httpCall).updateUser),
		{method: http.MethodDelete, path: "/users/{login}", gives: jsonOnly, serve: func(c *httpCall) httpAnswer {
			return c.userChanged(c.vars[0], c.deleteUser(c.user, c.vars[0]))
		}},
		command("enable", func(c *httpCall) userResult { return c.enableUser(c.user, c.vars[0]) }),
		command("disable", func(c *httpCall) userResult { return c.disableUser(c.user, c.vars[0]) }),
		write(http.MethodPost, "/users/{login}/command/reset-password", (*httpCall).resetPassword),
		write(http.MethodPost, "/users/{login}/command/change-password", (*httpCall).changePassword),
	}
}

// The message types that a real server shows in its answers (6.4).
const (
	typeUserUpdate  = 50
	typeUserDetails = 51
	typeUserList    = 52
	typeUserCurrent = 53
)

// userStatus is the status of a result.
func userStatus(r userResult) int {
	switch r {
	case userSuccess:
		return http.StatusOK
	case userConflict:
		return http.StatusConflict
	case userNotFound:
		return http.StatusNotFound
	case userTryAgain:
		return http.StatusRequestTimeout
	case userUnauthorized:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}

// userOutcome is what all answers about users end with.
type userOutcome struct {
	Success bool       `json:"success"`
	Error   userResult `json:"error"`
	Type    int        `json:"msgTypeId"`
}

func (c *httpCall) userChanged(login string, result userResult) httpAnswer {
	return c.json(userStatus(result), struct {
		Login string `json:"loginName"`
		userOutcome
	}{login, userOutcome{result == userSuccess, result, typeUserUpdate}})
}

// httpUser is a user as an answer tells of it.
type httpUser struct {
	Login    string    `json:"loginName"`
	FullName string    `json:"fullName"`
	Groups   []string  `json:"groups"`
	Updated  string    `json:"dateLastUpdated,omitempty"`
	Disabled bool      `json:"disabled"`
	Links    []hrefRel `json:"links,omitempty"`
}

type hrefRel struct {
	Href string `json:"href"`
	Rel  string `json:"rel"`
}

func (c *httpCall) httpUser(d *userDetails) httpUser {
	path := c.link("/users/" + escaped(d.login))
	able := "disable"
	if d.disabled {
		able = "enable"
	}
	return httpUser{
		Login: d.login, FullName: d.fullName, Groups: orEmpty(d.groups), Disabled: d.disabled,
		Links: []hrefRel{
			{path + "/command/reset-password", "reset-password"},
			{path + "/command/change-password", "change-password"},
			{path, "edit"},
			{path, "delete"},
			{path + "/command/" + able, able},
		},
	}
}

func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}

func (c *httpCall) listUsers() httpAnswer {
	all, result := c.Server.listUsers()
	data := []httpUser{}
	for i := range all {
		data = append(data, c.httpUser(&all[i]))
	}
	return c.json(userStatus(result), struct {
		Data []httpUser `json:"data"`
		userOutcome
	}{data, userOutcome{result == userSuccess, result, typeUserList}})
}

// userFound is the answer that tells of one user, or that there is none.
func (c *httpCall) userFound(u *httpUser, result userResult, messageType int) httpAnswer {
	if result != userSuccess {
		u = nil
	}
	return c.json(userStatus(result), struct {
		Data *httpUser `json:"data,omitempty"`
		userOutcome
	}{u, userOutcome{result == userSuccess, result, messageType}})
}

func (c *httpCall) getUser() httpAnswer {
	details, result := c.Server.getUser(c.vars[0])
	u := c.httpUser(&details)
	return c.userFound(&u, result, typeUserDetails)
}

func (c *httpCall) getCurrentUser() httpAnswer {
	if c.user == nil {
		return c.userFound(nil, userUnauthorized, typeUserCurrent)
	}
	details, result := c.Server.getUser(c.user.login)
	return c.userFound(&httpUser{
		Login: details.login, FullName: details.fullName, Groups: orEmpty(details.groups),
		Updated: details.updated.Format("2006-01-02T15:04:05.9999999-07:00"), Disabled: details.disabled,
	}, result, typeUserCurrent)
}

// bodyInto reads a body of JSON. One that is none, or no object, is a failure of the server (6.4).
func (c *httpCall) bodyInto(v any) *httpAnswer {
	b, refusal := c.text(maxSmallBody)
	if refusal == nil && (!strings.HasPrefix(strings.TrimLeft(string(b), " \t\r\n"), "{") || json.Unmarshal(b, v) != nil) {
		refusal = &httpAnswer{status: http.StatusInternalServerError}
	}
	return refusal
}

func (c *httpCall) createUser() httpAnswer {
	var m struct {
		LoginName          *string
		FullName, Password string
		Groups             []string
	}
	if refusal := c.bodyInto(&m); refusal != nil {
		return *refusal
	}
	if m.LoginName == nil {
		if !c.user.admin() {
			return c.userFound(nil, userUnauthorized, typeUserUpdate)
		}
		return httpAnswer{status: http.StatusBadRequest, reason: "The loginName is missing"} // a real server does not answer
	}
	login := readable(*m.LoginName)
	answer := c.userChanged(login, c.Server.createUser(c.user, login, m.FullName, readable(m.Password), m.Groups))
	if answer.status == http.StatusOK {
		answer.status = http.StatusCreated
		answer.header = []string{"Location", c.link("/users/" + escaped(login))}
	}
	return answer
}

func (c *httpCall) updateUser() httpAnswer {
	var m struct {
		FullName string
		Groups   []string
	}
	if refusal := c.bodyInto(&m); refusal != nil {
		return *refusal
	}
	return c.userChanged(c.vars[0], c.Server.updateUser(c.user, c.vars[0], m.FullName, m.Groups))
}

func (c *httpCall) resetPassword() httpAnswer {
	var m struct{ NewPassword string }
	if refusal := c.bodyInto(&m); refusal != nil {
		return *refusal
	}
	return c.userChanged(c.vars[0], c.Server.resetPassword(c.user, c.vars[0], readable(m.NewPassword)))
}

func (c *httpCall) changePassword() httpAnswer {
	var m struct{ CurrentPassword, NewPassword string }
	if refusal := c.bodyInto(&m); refusal != nil {
		return *refusal
	}
	return c.userChanged(c.vars[0], c.Server.changePassword(c.vars[0], readable(m.CurrentPassword), readable(m.NewPassword)))
}
