package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/goeventstore/eventstore/bench/canned"
	"github.com/goeventstore/eventstore/bench/contend"
	"github.com/goeventstore/eventstore/internal/memnet"
	"github.com/goeventstore/eventstore/server"
)

// The servers that are compared, the cheap one first.
const embedded = "embedded"

var servers = [2]string{"canned", embedded}

// startServer starts one of the servers.
func startServer(name string, listen func(network, addr string) (net.Listener, error)) (addr string, end io.Closer, err error) {
	if name == embedded {
		s, err := server.Start(server.Config{Listen: listen})
		if err != nil {
			return "", nil, err
		}
		return strings.TrimPrefix(s.URL(), "tcp://"), s, nil
	}
	l, err := listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	s, err := canned.Serve(l, canned.Config{Events: pageEvents, EventSize: eventSize})
	return l.Addr().String(), s, err
}

// runChild is the process of a server. Over TCP it prints its address and then, for each line that it reads, what it has
// used so far. Over memory it runs the load by itself, and prints the sample.
func runChild(name string, memory bool, profile string) (err error) {
	stop, err := contend.StartProfile(profile)
	if err != nil {
		return err
	}
	defer stop()
	in := json.NewDecoder(os.Stdin)
	out := json.NewEncoder(os.Stdout)
	if memory {
		var c loadCase
		if err := in.Decode(&c); err != nil {
			return err
		}
		s, err := c.overMemory(name)
		return errors.Join(err, out.Encode(s))
	}
	addr, end, err := startServer(name, net.Listen)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, end.Close()) }()
	for err = out.Encode(addr); err == nil; {
		var look bool
		if err = in.Decode(&look); err == nil {
			err = out.Encode(contend.Used())
		}
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

// overMemory measures a case in this process.
func (c *loadCase) overMemory(name string) (sample, error) {
	network := memnet.New()
	addr, end, err := startServer(name, network.Listen)
	if err != nil {
		return sample{}, err
	}
	conn, err := network.Dial(context.Background(), "tcp", addr)
	if err != nil {
		return sample{}, errors.Join(err, end.Close())
	}
	s, err := c.sample(conn, func() (contend.Cost, error) { return contend.Used(), nil })
	return s, errors.Join(err, closed(conn), end.Close())
}

// measure runs a case against a server in a process of its own.
func (c *loadCase) measure(name, profile string) (s sample, err error) {
	exe, err := os.Executable()
	if err != nil {
		return s, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	child := exec.CommandContext(ctx, exe, "-child", name, "-memory="+strconv.FormatBool(c.Memory), "-cpuprofile", profile) //nolint:gosec // itself
	child.Stderr = os.Stderr
	stdin, err := child.StdinPipe()
	if err != nil {
		return s, err
	}
	stdout, err := child.StdoutPipe()
	if err != nil {
		return s, err
	}
	if err := child.Start(); err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, stdin.Close(), child.Wait()) }()
	out, in := json.NewEncoder(stdin), json.NewDecoder(stdout)
	if c.Memory {
		return s, errors.Join(out.Encode(c), in.Decode(&s))
	}
	var addr string
	if err := in.Decode(&addr); err != nil {
		return s, err
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
	if err != nil {
		return s, err
	}
	defer func() { err = errors.Join(err, closed(conn)) }()
	return c.sample(conn, func() (u contend.Cost, err error) {
		return u, errors.Join(out.Encode(true), in.Decode(&u))
	})
}

// closed closes a connection, which a client may have done before.
func closed(conn net.Conn) error {
	if err := conn.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// sample runs the load and looks before and after it what the server has used.
func (c *loadCase) sample(conn net.Conn, look func() (contend.Cost, error)) (s sample, err error) {
	var l interface{ run(ops int) error }
	if c.Callers {
		callers, err := newCallers(conn, c)
		if err != nil {
			return sample{}, err
		}
		defer func() { err = errors.Join(err, callers.client.Close()) }()
		l = callers
	} else if l, err = newLoad(conn, c); err != nil {
		return sample{}, err
	}
	if err := l.run(c.Ops / 2); err != nil { // to warm up, and to fill what is bounded: the memory of ids takes 200,000
		return sample{}, err
	}
	before, err := look()
	if err != nil {
		return sample{}, err
	}
	start := time.Now()
	if err := l.run(c.Ops); err != nil {
		return sample{}, err
	}
	elapsed := time.Since(start)
	after, err := look()
	return sample{Cost: after.Since(before), Ops: c.Ops, Elapsed: elapsed}, err
}
