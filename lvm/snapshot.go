package lvm

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// The tags of a snapshot: that it is one of ours, and whose.
const (
	tag      = "rsince"
	ownerTag = "rsince-owner-"
)

// A Snapshot is one moment of a volume. It is kept until it is removed, also by the end of this process.
type Snapshot struct {
	Volume
	Owner string // who took it
}

// fullPool is how full a thin pool, in per cent, may be of data or metadata before no snapshot is taken in it: when it
// is full, nobody can write to any of its volumes.
const fullPool = 95

// A NoSpaceError says that there is no space for a snapshot.
type NoSpaceError struct {
	Where      string // the volume group or thin pool
	Used       string // what of it is full; empty: Want and Free tell
	Want, Free int64  // bytes
}

func (e *NoSpaceError) Error() string {
	if e.Used != "" {
		return fmt.Sprintf("the thin pool %s is full: %s", e.Where, e.Used)
	}
	return fmt.Sprintf("volume group %s has %s free, %s are needed", e.Where, humanize.IBytes(uint64(e.Free)), humanize.IBytes(uint64(e.Want)))
}

// Take makes a snapshot of a volume for owner: characters that a tag may have, and no other owner at any time. A
// classic one has size bytes for what is overwritten in its origin; a thin one takes space from its pool. In the moment
// itself the file system is quiet (dm-snapshot has it frozen), unless that is btrfs, see Open.
func Take(ctx context.Context, origin Volume, owner string, size int64) (*Snapshot, error) {
	name := "rsince-" + owner + "-" + strings.ToLower(first(origin.UUID, 6))
	args := []string{"--snapshot", "--yes", "--quiet", "--name", name, "--addtag", tag, "--addtag", ownerTag + owner}
	if origin.Thin() {
		if err := origin.roomInPool(ctx); err != nil {
			return nil, err
		}
		args = append(args, "--setactivationskip", "n")
	} else {
		size = roundUp(size, origin.Extent)
		if size > origin.Free {
			return nil, &NoSpaceError{Where: origin.Group, Want: size, Free: origin.Free}
		}
		args = append(args, "--size", strconv.FormatInt(size, 10)+"b")
	}
	_, err := command(ctx, "lvcreate", append(args, origin.String())...)
	taken, listErr := Taken(context.WithoutCancel(ctx))
	for _, s := range taken {
		if s.Group == origin.Group && s.Name == name && s.Owner == owner {
			if err != nil {
				return nil, errors.Join(err, s.Remove(ctx))
			}
			return &s, nil
		}
	}
	return nil, errors.Join(err, listErr)
}

func first(s string, n int) string { return s[:min(n, len(s))] }

func roundUp(size, unit int64) int64 {
	if unit <= 0 {
		return size
	}
	return (size + unit - 1) / unit * unit
}

// roomInPool returns a *NoSpaceError if the pool of a thin volume is nearly full.
func (v Volume) roomInPool(ctx context.Context) error {
	all, err := volumes(ctx)
	if err != nil {
		return err
	}
	pool, err := named(all, v.Group, v.Pool)
	if err != nil {
		return err
	}
	switch {
	case pool.Health != "":
		return &NoSpaceError{Where: pool.String(), Used: pool.Health}
	case pool.Used >= fullPool:
		return &NoSpaceError{Where: pool.String(), Used: fmt.Sprintf("%.2f %% of data", pool.Used)}
	case pool.UsedMetadata >= fullPool:
		return &NoSpaceError{Where: pool.String(), Used: fmt.Sprintf("%.2f %% of metadata", pool.UsedMetadata)}
	}
	return nil
}

// Taken lists all snapshots that Take has made on this machine, whoever took them.
func Taken(ctx context.Context) ([]Snapshot, error) {
	all, err := volumes(ctx)
	if err != nil {
		return nil, err
	}
	var taken []Snapshot
	for _, v := range all {
		if !slices.Contains(v.Tags, tag) {
			continue
		}
		for _, t := range v.Tags {
			if owner, ok := strings.CutPrefix(t, ownerTag); ok {
				taken = append(taken, Snapshot{Volume: v, Owner: owner})
			}
		}
	}
	return taken, nil
}

// ErrGone says that a snapshot is not there any more.
var ErrGone = errors.New("the snapshot was removed by somebody else")

// A FullError says that a snapshot ran full: nothing that was read from it since can be believed.
type FullError struct {
	Snapshot string
	Size     int64 // bytes
}

func (e *FullError) Error() string {
	return fmt.Sprintf("the snapshot %s ran full: %s were not enough for what was overwritten meanwhile", e.Snapshot, humanize.IBytes(uint64(e.Size)))
}

// Look asks again how full the snapshot is, or its pool. It returns a *FullError, or ErrGone, if what was read from it
// since the last time may be wrong: from the page cache it could be read on without an error.
func (s *Snapshot) Look(ctx context.Context) error {
	all, err := volumes(ctx)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(all, func(v Volume) bool { return v.UUID == s.UUID })
	if i < 0 {
		return fmt.Errorf("%s: %w", s, ErrGone)
	}
	s.Volume = all[i]
	if s.Thin() {
		pool, err := named(all, s.Group, s.Pool)
		if err != nil {
			return err
		}
		s.Used, s.UsedMetadata = pool.Used, pool.UsedMetadata
	}
	if s.Invalid || s.Health == "failed" {
		return &FullError{Snapshot: s.String(), Size: s.Size}
	}
	return nil
}

// Grow gives a classic snapshot so many bytes more, or returns a *NoSpaceError.
func (s *Snapshot) Grow(ctx context.Context, by int64) error {
	by = roundUp(by, s.Extent)
	if by > s.Free {
		return &NoSpaceError{Where: s.Group, Want: by, Free: s.Free}
	}
	_, err := command(ctx, "lvextend", "--quiet", "--size", "+"+strconv.FormatInt(by, 10)+"b", s.String())
	return err
}

// removal is how long Remove tries while something has the snapshot open: udev looks into what was just closed.
const removal = 30 * time.Second

// Remove removes the snapshot, also after ctx is done; one that is gone is none to remove. It goes by the volume's
// UUID: another one may have its name by now.
func (s *Snapshot) Remove(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	for end := time.Now().Add(removal); ; time.Sleep(100 * time.Millisecond) {
		_, err := command(ctx, "lvremove", "--force", "--yes", "--quiet", "--select", "lv_uuid="+s.UUID, s.Group)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}
