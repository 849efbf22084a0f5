package sync

import (
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"rsince/changes"
	"rsince/sync/rsync"
)

func TestAspectsOf(t *testing.T) {
	for _, test := range []struct {
		action  rsync.Action
		changes string
		want    string
	}{
		{rsync.Create, ">f+++++++++", "missing on the target"},
		{rsync.Delete, "*deleting  ", "only on the target"},
		{rsync.Update, ">f.st......", "size, time"},
		{rsync.Update, ">fcst......", "size, time"},
		{rsync.Update, ">fc........", "content"},
		{rsync.Update, ".d..tpogbax", "time, mode, owner, group, ACL, xattrs"},
		{rsync.Update, "cLc.T......", "content"},
		{rsync.Update, ".f......u..", ""},
		{rsync.Update, "hf         ", ""},
		{rsync.Update, ".f???????..", ""},
	} {
		got := strings.Join(aspectsOf(rsync.Item{Action: test.action, Changes: test.changes}).words(), ", ")
		if got != test.want {
			t.Errorf("%s: got %q, want %q", test.changes, got, test.want)
		}
	}
}

// TestKnown tells for each doubt in the journal which differences it accounts for.
func TestKnown(t *testing.T) {
	root := sourceOf(t, `mkdir -p d/sub e; touch d/f d/sub/f e/f file; head -c 200000 /dev/zero >e/large; ln e/f linked`)
	for _, test := range []struct {
		pending string
		kind    changes.Kind
		path    string
		a       aspects
		want    bool
	}{
		{"d/f", changes.Content, "d/f", otherContent, true},
		{"d/f", changes.Content, "d", otherTime, true},
		{"d/f", changes.Content, "d", otherTime | otherMode, false},
		{"d/f", changes.Content, "d/g", onlyTarget, false},
		{"d", changes.Content, "d/f", otherSize, false},
		{"d", changes.Content, "d/f", onlySource, false},
		{"d", changes.Directory, "d/f", otherContent, true},
		{"d", changes.Directory, "d/gone", onlyTarget, true},
		{"d", changes.Directory, "d/gone/below", onlyTarget, true},
		{"d", changes.Directory, "d/sub/f", otherSize, false},
		{"d", changes.Directory, "d/sub/gone", onlyTarget, false},
		{"d", changes.Directory, "d", otherMode, true},
		{"d", changes.Directory, ".", otherTime, true},
		{"d", changes.Subtree, "d/sub/f", otherContent, true},
		{"d", changes.Subtree, "e/f", otherSize, false},
		{"d", changes.Gone, "d/sub/f", onlySource, true},
		{"gone", changes.Gone, "gone/below/it", onlyTarget, true},
		{"gone/below", changes.Gone, "gone/other", onlyTarget, true},
		{"file", changes.Content, "file/below", onlyTarget, true},
		{"file", changes.Content, "file2", onlyTarget, false},
		{"e/large", changes.Attributes, "e/large", otherMode, true},
		{"e/large", changes.Attributes, "e/large", otherSize | otherTime, true},
		{"e/large", changes.Attributes, "e/large", otherContent, false},
		{"e/f", changes.Content, "linked", otherLinks, true},
		{"linked", changes.Attributes, "e/f", otherMode, true},
		{".", changes.Subtree, "d/sub/f", otherContent, true},
		{".", changes.Attributes, "d", otherMode, false},
		{"d/x.tmp", changes.Content, "d", otherTime, true}, // excluded
	} {
		p := newPlanner(treeOf(t, root))
		p.add(changes.Change{Path: test.pending, Kind: test.kind})
		plan, err := p.finish(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if got := newKnown(p.tree, plan, time.Time{}).covers(test.path, test.a); got != test.want {
			t.Errorf("%s %s, %s %v: got %v", test.kind, test.pending, test.path, test.a.words(), got)
		}
	}
}

// TestKnownSince takes what the ctimes show to be new for known.
func TestKnownSince(t *testing.T) {
	root := sourceOf(t, `mkdir -p old/sub new/sub; touch old/f old/sub/f new/f new/sub/f`)
	waitForClock(t)
	since := time.Now()
	waitForClock(t)
	change(t, root, `mv new moved; echo x >old/f; rm -r old/sub/f`)
	k := newKnown(treeOf(t, root), &plan{}, since)
	for path, want := range map[string]bool{
		"old/f": true, "moved/f": true, "moved/sub/f": true, "new": true, "new/sub/f": true, "old/sub/f": true, "old/sub/g": true,
		"old/g": false, "old": false,
	} {
		if got := k.covers(path, onlyTarget); got != want {
			t.Errorf("%s: %v", path, got)
		}
	}
}

// waitForClock lets more time pass than known takes for one moment.
func waitForClock(t *testing.T) {
	t.Helper()
	stamp := t.TempDir() + "/stamp"
	for began := time.Now(); ; {
		write(t, stamp, "")
		if info, err := os.Stat(stamp); err != nil || time.Since(began) > 5*time.Second {
			t.Fatal("the clock stands still", err)
		} else if info.ModTime().After(began.Add(2 * tick)) {
			return
		}
	}
}

// TestVerification finds what somebody did to the target, and has it mended; before the first run it does nothing.
func TestVerification(t *testing.T) {
	source := sourceOf(t, `mkdir d; echo x >d/f; ln d/f linked; echo y >g; ln -s g s`)
	to := t.TempDir() + "/dst"
	j := jobOf(t, source, to)
	v := &Verification{Job: j, Repair: true}
	var skipped *SkippedError
	if _, err := v.Run(t.Context()); !errors.Is(err, ErrNeverCopied) || !errors.As(err, &skipped) {
		t.Fatalf("before the first run: %v", err)
	}
	if _, err := os.Stat(to); err == nil {
		t.Error("it made the target")
	}
	run1(t, j)
	waitForClock(t)
	run1(t, j)
	verify(t, v, "")
	if last, err := LastVerified(j.Dir); err != nil || last == nil || last.Missed != 0 {
		t.Errorf("%+v, %v", last, err)
	}
	change(t, to, `cp -p linked l; mv l linked; rm s; echo yy >g; mkdir new; touch new/x`)
	verify(t, v, "g: size, time|linked: links|new: only on the target|s: missing on the target")
	if last, err := LastVerified(j.Dir); err != nil || last == nil || last.Missed != 4 || !last.Repaired {
		t.Errorf("%+v, %v", last, err)
	}
	verify(t, v, "")
	run1(t, j)
	same(t, source, to)
}

func verify(t *testing.T, v *Verification, want string) {
	t.Helper()
	found, err := v.Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, d := range found.Differences {
		got = append(got, d.Path+": "+strings.Join(d.What, ", "))
	}
	if want := strings.Split(want, "|"); !slices.Equal(got, want) && want[0]+strings.Join(got, "") != "" {
		t.Errorf("got %q, want %q", got, want)
	}
}
