package changes

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A connection to the watcher carries one request and one reply, each a JSON line.
type request struct {
	Op      string `json:"op"` // "cut", "flush", "status" or "process"
	Profile string `json:"profile,omitempty"`
}

type reply struct {
	Error     string            `json:"error,omitempty"`
	Errno     unix.Errno        `json:"errno,omitempty"`     // what the system said, if it was that
	Unwatched bool              `json:"unwatched,omitempty"` // this watcher does not watch the profile
	Batch     string            `json:"batch,omitempty"`
	Cut       time.Time         `json:"cut,omitzero"`
	Profiles  map[string]Status `json:"profiles,omitempty"`
	Process   Process           `json:"process,omitzero"`
}

// A Process is a watcher that is running.
type Process struct {
	PID  int      `json:"pid"`
	Only []string `json:"only,omitempty"` // the profiles that it was started for; nil: all there are
}

const (
	maxRequest    = 4 << 10
	maxReply      = 16 << 20
	requestWithin = 5 * time.Second // a request is written, and a reply read, at once
	replyWithin   = 60 * time.Second
)

// ErrNoWatcher says that no watcher answers for the profile.
var ErrNoWatcher = errors.New("no watcher is running")

// ErrOtherWatcher says that there can be no second watcher on a socket.
var ErrOtherWatcher = errors.New("another watcher is running")

// ErrSilent says that a watcher is there and does not answer in time.
var ErrSilent = errors.New("the watcher does not answer")

// errHungUp says that the watcher was there and ended before it answered.
var errHungUp = errors.New("the watcher hung up")

// A socket is where a watcher listens. A lock beside it tells a living watcher from the socket that
// a dead one left.
type socket struct {
	*net.UnixListener
	path string
	lock *os.File
}

// listen opens the watcher's socket for its own user.
func listen(path string) (*socket, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(path+".lock", unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil, fmt.Errorf("%w on %s", ErrOtherWatcher, path)
	} else if err != nil {
		return nil, err
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, errors.Join(err, lock.Close())
	}
	address, release, err := socketAddress(path)
	if err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	defer release()
	config := net.ListenConfig{Control: onlyForUser}
	l, err := config.Listen(context.Background(), "unix", address)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listening on %s: %w", path, err), lock.Close())
	}
	s := &socket{UnixListener: l.(*net.UnixListener), path: path, lock: lock}
	s.SetUnlinkOnClose(false) // by the address, which is no longer valid
	return s, nil
}

// Close ends the socket; unlock lets another watcher have it.
func (s *socket) Close() error {
	return errors.Join(s.UnixListener.Close(), ignoring(os.Remove(s.path), fs.ErrNotExist))
}

func (s *socket) unlock() error { return s.lock.Close() }

// onlyForUser gives the socket's file the mode 0600 from the beginning: bind(2) takes it from the
// socket itself, less the umask.
func onlyForUser(_, _ string, c syscall.RawConn) error {
	var err error
	return errors.Join(c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }), err)
}

// socketAddress returns an address for path that the kernel takes, valid until released. An address
// has 108 bytes, one of them for the NUL (unix(7)); what is longer goes by way of the directory.
func socketAddress(path string) (address string, release func(), err error) {
	path, err = filepath.Abs(path) // also because net takes a leading @ for something else
	if err != nil || len(path) < len(unix.RawSockaddrUnix{}.Path) {
		return path, func() {}, err
	}
	dir, err := unix.Open(filepath.Dir(path), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", nil, &fs.PathError{Op: "open", Path: filepath.Dir(path), Err: err}
	}
	address = filepath.Join("/proc/self/fd", strconv.Itoa(dir), filepath.Base(path))
	return address, func() { unix.Close(dir) }, nil
}

// serve answers requests until the socket is closed, then waits for those under way. The end of ctx
// ends the waiting for requests, not the answering.
func (s *socket) serve(ctx context.Context, answer func(context.Context, request) reply) {
	var under sync.WaitGroup
	defer under.Wait()
	for {
		conn, err := s.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		} else if err != nil {
			time.Sleep(10 * time.Millisecond) // out of descriptors, say
			continue
		}
		under.Go(func() { serveOne(ctx, conn, answer) })
	}
}

func serveOne(ctx context.Context, conn *net.UnixConn, answer func(context.Context, request) reply) {
	defer conn.Close()
	r := reply{}
	req, err := readRequest(ctx, conn)
	if err == nil {
		err = checkPeer(conn)
	}
	if err != nil {
		r.Error = err.Error()
	} else {
		r = answer(context.WithoutCancel(ctx), req)
	}
	// A peer that went away has no use for the answer; a batch it did not hear of is cut again.
	conn.SetDeadline(time.Now().Add(requestWithin))
	_ = json.NewEncoder(conn).Encode(r)
}

func readRequest(ctx context.Context, conn *net.UnixConn) (req request, err error) {
	conn.SetReadDeadline(time.Now().Add(requestWithin))
	stop := context.AfterFunc(ctx, func() { conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	return decodeRequest(conn)
}

func decodeRequest(conn io.Reader) (req request, err error) {
	if err := json.NewDecoder(io.LimitReader(conn, maxRequest)).Decode(&req); err != nil {
		return request{}, fmt.Errorf("reading the request: %w", err)
	}
	return req, nil
}

// checkPeer allows root and the watcher's own user (unix(7), SO_PEERCRED).
func checkPeer(conn *net.UnixConn) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var sockErr error
	err = raw.Control(func(fd uintptr) {
		peer, sockErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(err, sockErr); err != nil {
		return err
	}
	if peer.Uid != 0 && int(peer.Uid) != os.Geteuid() {
		return fmt.Errorf("uid %d may not ask the watcher of uid %d", peer.Uid, os.Geteuid())
	}
	return nil
}

// ask sends one request to the watcher on socket.
func ask(ctx context.Context, socket string, req request) (reply, error) {
	ctx, cancel := context.WithTimeout(ctx, replyWithin)
	defer cancel()
	r, err := exchange(ctx, socket, req)
	if err != nil && errors.Is(ctx.Err(), context.Canceled) { // which the connection shows as a time that was up
		return reply{}, fmt.Errorf("asking the watcher: %w", ctx.Err())
	}
	return r, err
}

func exchange(ctx context.Context, socket string, req request) (reply, error) {
	conn, err := dial(ctx, socket)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return reply{}, ErrNoWatcher
	} else if err != nil {
		return reply{}, fmt.Errorf("asking the watcher: %w", hungUp(err))
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := json.NewEncoder(conn).Encode(req); err != nil {
		return reply{}, fmt.Errorf("asking the watcher: %w", hungUp(err))
	}
	return readReply(conn)
}

// readReply reads a watcher's answer. One by which it did not do what it was asked for is an error.
func readReply(conn io.Reader) (r reply, err error) {
	if err := json.NewDecoder(io.LimitReader(conn, maxReply)).Decode(&r); err != nil {
		return reply{}, fmt.Errorf("reading the watcher's answer: %w", hungUp(err))
	}
	if r.Error != "" {
		return reply{}, &refusedError{r}
	}
	if r.Unwatched {
		return reply{}, ErrNoWatcher
	}
	return r, nil
}

// A refusedError is an answer that says why there is none.
type refusedError struct{ reply reply }

func (e *refusedError) Error() string { return "the watcher says: " + e.reply.Error }

func (e *refusedError) Unwrap() error {
	if e.reply.Errno == 0 {
		return nil
	}
	return e.reply.Errno
}

// Running returns the watcher on socket; ErrNoWatcher if there is none.
func Running(ctx context.Context, socket string) (Process, error) {
	r, err := ask(ctx, socket, request{Op: "process"})
	return r.Process, err
}

func dial(ctx context.Context, socket string) (net.Conn, error) {
	address, release, err := socketAddress(socket)
	if err != nil {
		return nil, err
	}
	defer release()
	return new(net.Dialer).DialContext(ctx, "unix", address)
}

// hungUp marks what a connection says whose other end is gone, or does nothing.
func hungUp(err error) error {
	if isTimeout(err) {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	for _, gone := range []error{io.EOF, io.ErrUnexpectedEOF, unix.EPIPE, unix.ECONNRESET} {
		if errors.Is(err, gone) {
			return fmt.Errorf("%w: %w", errHungUp, err)
		}
	}
	return err
}
