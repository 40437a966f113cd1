package server

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/goeventstore/eventstore/messages"
	"github.com/goeventstore/eventstore/server/internal/store"
)

// The streams and events of users beside their own (5.1).
const (
	usersStream         = "$users"
	notificationsStream = "$users-password-notifications"
	typeUser            = "$User"
	typeUserCreated     = "$UserCreated"
	typeUserUpdated     = "$UserUpdated"
	typePasswordChanged = "$PasswordChanged"
)

// What a real server writes as the metadata of these streams.
const (
	userMetadata          = `{"$acl":{"$w":"$admins","$d":"$admins","$mw":"$admins"}}`
	notificationsMetadata = `{"$maxAge":3600}`
)

// userResult is how a request about users ends, by its name in HTTP (6.4).
type userResult string

const (
	userSuccess      userResult = "Success"
	userNotFound     userResult = "NotFound"
	userConflict     userResult = "Conflict"
	userUnauthorized userResult = "Unauthorized"
	userTryAgain     userResult = "TryAgain"
	userError        userResult = "Error"
)

// userDetails are what everybody may know of a user.
type userDetails struct {
	login, fullName string
	groups          []string
	disabled        bool
	updated         time.Time // zero when nothing is known but the login
}

// builtInUsers are those that a real server begins with (4.18). They are hashed once: tests start many servers.
var builtInUsers = sync.OnceValue(func() []userData {
	made := []userData{
		{LoginName: "admin", FullName: "Event Store Administrator", Groups: []string{roleAdmins}},
		{LoginName: "ops", FullName: "Event Store Operations", Groups: []string{roleOps}},
	}
	for i := range made {
		made[i].setPassword("changeit")
	}
	return made
})

// beginLog writes the events with which a log begins. Nobody reads yet.
func (w *writer) beginLog() error {
	w.begin()
	if err := w.stageUsers(); err != nil {
		return err
	}
	return w.store.Commit()
}

// stageUsers stages the users that there are at first, in the order of a real server.
func (w *writer) stageUsers() error {
	now := w.moment
	made := builtInUsers()
	for i := range made {
		if err := w.first(metaPrefix+userPrefix+made[i].LoginName, 0, jsonEvent(typeMetadata, []byte(userMetadata)), now); err != nil {
			return err
		}
	}
	for i := range made {
		if err := w.first(userPrefix+made[i].LoginName, 0, jsonEvent(typeUserCreated, made[i].encode()), now); err != nil {
			return err
		}
	}
	for i := range made {
		event := messages.NewEvent{Type: typeUser, Data: []byte(made[i].LoginName)}
		if err := w.first(usersStream, int64(i), event, now); err != nil {
			return err
		}
	}
	return nil
}

func (w *writer) first(stream string, number int64, e messages.NewEvent, now time.Time) error {
	e.ID = w.newID()
	_, err := w.stage(stream, number, &e, now)
	return err
}

// createUser makes a user. One that is there already with this very password is as good as created.
func (s *Server) createUser(by *user, login, fullName, password string, groups []string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	v := s.view()
	info, err := v.info(userPrefix + login)
	if err != nil {
		return userError
	}
	switch data, _, result := v.userData(login); {
	case result == userError:
		return userError
	case result == userSuccess && s.users.verify(&data, password):
		return userSuccess
	case result == userSuccess:
		return userConflict
	}
	// The metadata bring a user back who was deleted, behind the old events.
	result, err := s.writeOwn(metaPrefix+userPrefix+login, expectAny, jsonEvent(typeMetadata, []byte(userMetadata)))
	switch {
	case err == nil && result == messages.WrongExpectedVersion:
		return userTryAgain
	case err != nil || result != messages.Success:
		return userError
	}
	data := userData{LoginName: login, FullName: fullName, Groups: groups}
	data.setPassword(password)
	if written := s.writeUser(&data, typeUserCreated, info.last); written != userSuccess {
		return written
	}
	return writtenAs(s.writeOwn(usersStream, expectAny, messages.NewEvent{Type: typeUser, Data: []byte(login)}))
}

// updateUser replaces a user's full name and groups.
func (s *Server) updateUser(by *user, login, fullName string, groups []string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	return s.changeUser(login, true, func(d *userData) bool {
		d.FullName, d.Groups = fullName, groups
		return true
	})
}

// enableUser lets a user in again.
func (s *Server) enableUser(by *user, login string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	return s.changeUser(login, false, func(d *userData) bool {
		d.Disabled = false
		return true
	})
}

// disableUser lets a user in no more.
func (s *Server) disableUser(by *user, login string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	return s.changeUser(login, true, func(d *userData) bool {
		d.Disabled = true
		return true
	})
}

// resetPassword replaces a user's password.
func (s *Server) resetPassword(by *user, login, password string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	return s.changeUser(login, true, func(d *userData) bool {
		d.setPassword(password)
		return true
	})
}

// changePassword replaces a user's password, for anybody who knows it.
func (s *Server) changePassword(login, current, password string) userResult {
	return s.changeUser(login, true, func(d *userData) bool {
		if !s.users.verify(d, current) {
			return false
		}
		d.setPassword(password)
		return true
	})
}

// deleteUser deletes a user's stream softly, so that the login can be used again.
func (s *Server) deleteUser(by *user, login string) userResult {
	if !by.admin() {
		return userUnauthorized
	}
	_, event, result := s.view().userData(login)
	if result != userSuccess {
		return result
	}
	deleted := writtenAs(s.deleteOwn(userPrefix+login, event.Number))
	if notified := s.notify(login); notified != userSuccess {
		return notified
	}
	return deleted
}

// getUser tells of a user.
func (s *Server) getUser(login string) (userDetails, userResult) {
	data, event, result := s.view().userData(login)
	if result != userSuccess {
		return userDetails{}, result
	}
	created := messages.EventRecord{Created: event.Created}
	return userDetails{login, data.FullName, data.Groups, data.Disabled, created.CreatedTime()}, userSuccess
}

// listUsers tells of all users, by their logins.
func (s *Server) listUsers() ([]userDetails, userResult) {
	v := s.view()
	info, err := v.info(usersStream)
	switch {
	case err != nil || info.deleted:
		return nil, userError
	case !info.exists():
		return nil, userNotFound
	}
	var logins []string
	for number := info.min; number <= info.last; number++ {
		e, err := v.eventRecord(usersStream, number)
		if err != nil {
			return nil, userError
		}
		if login := string(e.Data); e.Type == typeUser && !slices.Contains(logins, login) {
			logins = append(logins, login)
		}
	}
	var found []userDetails
	for _, login := range logins {
		switch details, result := s.getUser(login); result {
		case userSuccess:
			found = append(found, details)
		case userNotFound: // deleted
		default:
			return nil, result
		}
	}
	slices.SortFunc(found, func(a, b userDetails) int {
		return cmp.Or(strings.Compare(strings.ToLower(a.login), strings.ToLower(b.login)), strings.Compare(a.login, b.login))
	})
	return found, userSuccess
}

// userData reads the last event of a user.
func (v view) userData(login string) (userData, *store.Record, userResult) {
	_, event, err := v.event(userPrefix+login, -1)
	switch {
	case err != nil:
		return userData{}, nil, userError
	case event == nil:
		return userData{}, nil, userNotFound
	}
	data, ok := parseUser(event)
	if !ok {
		return userData{}, nil, userError
	}
	return data, event, userSuccess
}

// changeUser writes what change makes of a user, unless it refuses. Nodes that remember the password are notified first.
func (s *Server) changeUser(login string, notify bool, change func(*userData) bool) userResult {
	data, event, result := s.view().userData(login)
	if result != userSuccess {
		return result
	}
	if !change(&data) {
		return userUnauthorized
	}
	if notify {
		if notified := s.notify(login); notified != userSuccess {
			return notified
		}
	}
	return s.writeUser(&data, typeUserUpdated, event.Number)
}

func (s *Server) writeUser(data *userData, eventType string, expected int64) userResult {
	return writtenAs(s.writeOwn(userPrefix+data.LoginName, expected, jsonEvent(eventType, data.encode())))
}

// notify tells in the log that a password may not be remembered any more.
func (s *Server) notify(login string) userResult {
	_, earlier, err := s.view().event(notificationsStream, -1)
	if err != nil {
		return userError
	}
	if earlier == nil {
		if _, err := s.writeOwn(metaPrefix+notificationsStream, expectAny, jsonEvent(typeMetadata, []byte(notificationsMetadata))); err != nil {
			return userError
		}
	}
	data := encodeIndented(struct {
		LoginName string `json:"loginName"`
	}{login})
	result, err := s.writeOwn(notificationsStream, expectAny, jsonEvent(typePasswordChanged, data))
	switch {
	case err == nil && result == messages.Success:
		return userSuccess
	case err == nil && result == messages.WrongExpectedVersion:
		return userConflict
	default:
		return userError
	}
}

// writtenAs is what the answer to a write means for the user.
func writtenAs(result messages.OperationResult, err error) userResult {
	switch {
	case err != nil:
		return userError
	case result == messages.Success:
		return userSuccess
	case result == messages.WrongExpectedVersion || result == messages.StreamDeleted:
		return userConflict
	default:
		return userError
	}
}
