package sqltest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cluster is a PostgreSQL of these tests: in a folder of its own, reached by a socket in it, gone when the tests are.
type cluster struct {
	folder string
	cmd    *exec.Cmd
	in     io.Closer // its end ends the cluster, also when it comes with ours
}

var errNoPostgres = errors.New("there is no PostgreSQL here: install Debian's package postgresql, or have initdb in PATH")

// programs returns the folder of PostgreSQL's programs, of the newest version.
func programs() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errNoPostgres
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(strings.Split(path, "/")[4])
		return n
	}
	return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })), nil
}

// unprivileged is who runs PostgreSQL when we are root, whom it refuses; nil otherwise.
func unprivileged() (*syscall.Credential, error) {
	if os.Getuid() != 0 {
		return nil, nil //nolint:nilnil // see above
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil {
			return nil, err
		}
		gid, err := strconv.ParseUint(u.Gid, 10, 32)
		if err != nil {
			return nil, err
		}
		return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
	}
	return nil, errors.New("PostgreSQL refuses root, and there is neither a user postgres nor nobody")
}

// startCluster returns when PostgreSQL takes connections.
func startCluster() (c *cluster, err error) {
	bin, err := programs()
	if err != nil {
		return nil, err
	}
	as, err := unprivileged()
	if err != nil {
		return nil, err
	}
	c = &cluster{}
	if c.folder, err = os.MkdirTemp("", "sqltest"); err != nil { // short, for the name of a socket
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(c.folder))
		}
	}()
	if as != nil {
		if err := os.Chown(c.folder, int(as.Uid), int(as.Gid)); err != nil {
			return nil, err
		}
	}
	command := func(name string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(context.Background(), name, args...) // it outlives the test that wants it first
		cmd.Dir, cmd.Env = c.folder, append(os.Environ(), "LC_ALL=C")
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: as, Setpgid: true} // the terminal's interrupt is for us
		return cmd
	}
	data := filepath.Join(c.folder, "data")
	out, err := command(filepath.Join(bin, "initdb"), "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync").CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	// The shell ends it when its own input ends. What dies with our process is that input.
	c.cmd = command("/bin/sh", "-c", `"$@" & read -r _; kill -INT $!; wait $!`, "sh",
		filepath.Join(bin, "postgres"), "-D", data, "-k", c.folder, "-p", "5432", "-c", "listen_addresses=", "-c", "fsync=off",
		"-c", "max_connections=200", "-c", "lc_messages=C")
	log, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	guard := time.AfterFunc(time.Minute, func() { _ = c.in.Close() })
	defer guard.Stop()
	var said []string
	for lines := bufio.NewScanner(log); lines.Scan(); {
		said = append(said, lines.Text())
		if strings.Contains(lines.Text(), "ready to accept connections") {
			go func() { _, _ = io.Copy(io.Discard, log) }() // until it has ended
			return c, nil
		}
	}
	_ = c.in.Close()
	return nil, errors.Join(fmt.Errorf("postgres has ended:\n%s", strings.Join(said, "\n")), c.cmd.Wait())
}

func (c *cluster) source(database string) string {
	return fmt.Sprintf("host=%s port=5432 user=postgres dbname=%s sslmode=disable", c.folder, database)
}

func (c *cluster) stop() error {
	return errors.Join(c.in.Close(), c.cmd.Wait(), os.RemoveAll(c.folder))
}
