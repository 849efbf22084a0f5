package sync

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"strings"

	"rsince/sync/profile"
)

// waysTo gives the keys of a target's locks: its own last, before it those of all directories that
// contain it. On one machine two users have the same files, so who logs in is no part of a key.
func waysTo(target profile.Target) []string {
	host := strings.ToLower(target.Host[strings.LastIndexByte(target.Host, '@')+1:])
	root := host + ":"
	if target.Daemon {
		const defaultPort = 873
		root = fmt.Sprintf("rsync://%s:%d/", host, cmp.Or(target.Port, defaultPort))
	}
	path := target.Path
	if target.Local() {
		path = resolved(path)
	}
	ways := []string{root + "/"}
	at := ""
	for name := range strings.SplitSeq(strings.Trim(filepath.Clean(path), "/"), "/") {
		if name != "" {
			at += "/" + name
			ways = append(ways, root+at)
		}
	}
	return ways
}

// targetWay is the key of a target as it is written in a profile.
func targetWay(target string) string {
	t, err := profile.ParseTarget(target)
	if err != nil {
		return ""
	}
	ways := waysTo(t)
	return ways[len(ways)-1]
}

// lockPath is the file that is locked for a key.
func lockPath(dir, way string) string {
	sum := sha256.Sum256([]byte(way))
	return filepath.Join(dir, hex.EncodeToString(sum[:12])+".lock")
}

// resolved follows symlinks as far as path exists.
func resolved(path string) string {
	if real, err := filepath.EvalSymlinks(path); err == nil {
		return real
	}
	if path == "/" {
		return path
	}
	return filepath.Join(resolved(filepath.Dir(path)), filepath.Base(path))
}
