package changes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"net"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// answers serves a socket on which every request is answered by a text, and then hung up upon; silence
// keeps the connection.
func answers(t *testing.T, text string, silence bool) (socket string) {
	t.Helper()
	socket = filepath.Join(memoryDir(t), "watch.sock")
	l, err := net.Listen("unix", socket)
	do(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			t.Cleanup(func() { conn.Close() })
			go func() {
				_, _ = conn.Read(make([]byte, maxRequest))
				_, _ = conn.Write([]byte(text)) // the peer may have heard enough
				if !silence {
					conn.Close()
				}
			}()
		}
	}()
	return socket
}

// TestRubbishFromSocket: what no watcher would answer fails the cut, and the journal stays as it is.
func TestRubbishFromSocket(t *testing.T) {
	for _, tt := range []struct {
		name, answer string
		silence      bool
		want         string
	}{
		{"nothing at all", "", true, "i/o timeout"},
		{"nothing", "", false, "the watcher hung up: EOF"},
		{"half an answer", `{"batch":"`, false, "the watcher hung up: unexpected EOF"},
		{"half an answer, then nothing", `{"batch":"`, true, "i/o timeout"},
		{"no JSON", "\x00\xff\n", false, "invalid character"},
		{"a line of another protocol", "HTTP/1.0 400 Bad Request\r\n\r\n", false, "invalid character"},
		{"another type", `{"batch":17}`, false, "cannot unmarshal number"},
		{"a list", "[]\n", false, "cannot unmarshal array"},
		{"nothing in JSON", "{}\n", false, errNoCut.Error()},
		{"null", "null\n", false, errNoCut.Error()},
		{"a status", `{"profiles":{"p":{"backend":"fake"}}}`, false, errNoCut.Error()},
		{"a cut of another profile", `{"cut":"2026-01-01T00:00:00Z","profiles":{"q":{"backend":"fake"}}}`, false, errNoCut.Error()},
		{"a batch that is none", `{"batch":"x","cut":"2026-01-01T00:00:00Z","profiles":{"p":{"backend":"fake"}}}`, false, ErrUnknownBatch.Error()},
		{"blanks without end", strings.Repeat(" ", maxReply+1), false, "the watcher hung up"},
		{"brackets without end", strings.Repeat("[", maxReply), false, "exceeded max depth"},
		{"an error", `{"error":"no"}`, false, "the watcher says: no"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := memoryDir(t)
			do(t, Add(dir, []Change{{Path: "a", Kind: Content}}))
			known := time.Now().Truncate(0)
			do(t, setKnownUntil(dir, known))
			patience := 5 * time.Second
			if tt.silence {
				patience = time.Second
			}
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			_, err := Cut(ctx, answers(t, tt.answer, tt.silence), dir, "p")
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("cut: %v, want %q", err, tt.want)
			}
			if got := pendingPaths(t, dir); !slices.Equal(got, []string{"a"}) || !KnownUntil(dir).Equal(known) {
				t.Errorf("pending: %q, known until %v", got, KnownUntil(dir))
			}
			if batch := cutAlone(t, dir); !slices.Equal(pathsOf(batch.Changes), []string{"a"}) {
				t.Errorf("the next cut: %+v", batch)
			}
		})
	}
}

// TestWatcherEndsWhileAsked: who hears half of an answer and then nobody cuts by himself.
func TestWatcherEndsWhileAsked(t *testing.T) {
	dir := memoryDir(t)
	do(t, Add(dir, []Change{{Path: "a", Kind: Content}}))
	socket := filepath.Join(dir, "watch.sock")
	l, err := net.Listen("unix", socket)
	do(t, err)
	go func() {
		conn, err := l.Accept()
		err = errors.Join(err, l.Close())
		if err == nil {
			_, err = conn.Write([]byte(`{"ba`))
			err = errors.Join(err, conn.Close())
		}
		if err != nil {
			t.Error(err)
		}
	}()
	batch, err := Cut(t.Context(), socket, dir, "p")
	if err != nil || !slices.Equal(pathsOf(batch.Changes), []string{"a"}) || len(batch.Gaps) == 0 {
		t.Errorf("cut: %+v, %v", batch, err)
	}
}

// FuzzReply: an answer is an error, or one of a watcher that did what it was asked for; what a cut goes by is checked
// by cutWatched.
func FuzzReply(f *testing.F) {
	f.Add([]byte(`{"batch":"A","cut":"2026-01-01T00:00:00Z","profiles":{"p":{"backend":"fanotify"}}}`))
	f.Add([]byte(`{"error":"no space left on device","errno":28}`))
	f.Add([]byte(`{"unwatched":true}`))
	f.Add([]byte(`{"process":{"pid":7,"only":["p"]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := readReply(bytes.NewReader(text))
		if err != nil && !reflect.DeepEqual(r, reply{}) {
			t.Errorf("%v, and %+v", err, r)
		}
		if err == nil && (r.Error != "" || r.Unwatched) {
			t.Errorf("taken for an answer: %+v", r)
		}
	})
}

// FuzzRequest: rubbish is no request that does anything.
func FuzzRequest(f *testing.F) {
	f.Add([]byte(`{"op":"cut","profile":"p"}`))
	f.Add([]byte(`{"op":"status"}`))
	w := &Watcher{}
	f.Fuzz(func(t *testing.T, text []byte) {
		req, err := decodeRequest(bytes.NewReader(text))
		if err != nil && req != (request{}) {
			t.Errorf("%v, and %+v", err, req)
		}
		known := req.Op == "status" || req.Op == "process"
		if r := w.answer(t.Context(), req); !known && !r.Unwatched {
			t.Errorf("%+v is answered by %+v", req, r)
		}
	})
}

// FuzzLine: what a line of any text decodes to is what it was made of.
func FuzzLine(f *testing.F) {
	f.Add([]byte(` {"id":"A","through":7}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		line := append(fmt.Appendf(nil, "%0*x", sumLen, crc32.Checksum(text, crcTable)), text...)
		var b, same batchFile
		if decodeLine(line, &b) != nil {
			return
		}
		again, err := encodeLine(b, 0)
		if err != nil || decodeLine(again, &same) != nil || same != b {
			t.Errorf("%q: %+v and %+v, %v", line, b, same, err)
		}
	})
}
