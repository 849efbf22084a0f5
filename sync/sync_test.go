package sync

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rsince/changes"
	"rsince/changes/scan"
	"rsince/logs"
	"rsince/sync/profile"
	"rsince/sync/rsync"
	"rsince/sync/rsync/rsynctest"
)

// jobOf makes a job that copies source, without a watcher.
func jobOf(t *testing.T, source, to string, options ...string) *Job {
	t.Helper()
	if _, err := exec.LookPath("rsync"); err != nil {
		t.Skip("rsync is not installed")
	}
	p := profile.Default(source, target(t, to))
	p.Name, p.RsyncOptions = "test", options
	state := t.TempDir()
	runs, err := logs.Open(state + "/logs")
	if err != nil {
		t.Fatal(err)
	}
	return &Job{
		Profile: p, Dir: state + "/profile", Locks: state + "/locks", Socket: state + "/watch.sock",
		Own: []string{state}, Runs: runs,
	}
}

func run1(t *testing.T, j *Job) logs.Run {
	t.Helper()
	r, err := j.Run(t.Context())
	if err != nil || r.State != logs.OK {
		t.Fatalf("%+v: %v", r, err)
	}
	return r
}

// same fails unless rsync, contents compared, has nothing to do.
func same(t *testing.T, source, target string) {
	t.Helper()
	out, err := exec.Command("rsync", "-aHAXn", "--modify-window=-1", "--checksum", "--delete", "-i", source+"/", target+"/").CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("they differ: %v\n%s", err, out)
	}
}

// change runs a shell script in the source.
func change(t *testing.T, source, script string) {
	t.Helper()
	cmd := exec.Command("sh", "-ec", script)
	cmd.Dir = source
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// TestFirstRunInterrupted changes, behind an equal size and time, what a first run has copied that nobody watches
// and that is interrupted.
func TestFirstRunInterrupted(t *testing.T) {
	source, to := t.TempDir(), t.TempDir()+"/dst"
	change(t, source, `mkdir b; echo first >a; echo first >b/f; touch -d 2020-02-02 a b/f`)
	j := jobOf(t, source, to)
	ctx, cancel := context.WithCancel(t.Context())
	j.Items = func(item rsync.Item) {
		if item.Path == "b/f" {
			cancel()
		}
	}
	if r, _ := j.Run(ctx); r.State != logs.Interrupted {
		t.Fatalf("%+v", r)
	}
	change(t, source, `echo later >a; echo later >b/f; touch -d 2020-02-02 a b/f`)
	j.Items = nil
	run1(t, j)
	same(t, source, to)
}

// TestDoubts is about what shows a full run which names are to be copied although their size and time agree.
func TestDoubts(t *testing.T) {
	p := profile.Default(t.TempDir(), target(t, "/dst"))
	now := time.Now()
	source := changes.Source{Path: p.Source, OneFileSystem: true}
	nothingKnown := changes.Gap{Reason: "another source", Subtree: "."}
	overflow := changes.Gap{Reason: "overflow", Subtree: ".", Since: now.Add(-time.Minute)}
	for _, test := range []struct {
		name        string
		catalog     func(dir string) string // where there is one; nil: there is none
		gaps        []changes.Gap
		change      func(r *run)
		want, alone bool
	}{
		{"asked for", catalogFile, nil, func(r *run) { r.Full = true }, true, false},
		{"asked for after a gap", catalogFile, []changes.Gap{overflow}, func(r *run) { r.Full = true }, true, true},
		{"nothing is known from before", catalogFile, []changes.Gap{nothingKnown}, nil, true, false},
		{"put aside by a run that broke off", asideFile, nil, func(r *run) { r.memory.Owed = "it broke off" }, true, false},
		{"put aside, and a gap", asideFile, []changes.Gap{overflow}, nil, true, false},
		{"none", nil, nil, func(r *run) { r.Full = true }, false, false},
		{"of another source", catalogFile, nil, func(r *run) { r.Accept = true }, false, false},
		{"of another target", catalogFile, []changes.Gap{overflow}, func(r *run) { r.memory.LastFull = time.Time{} }, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			m := memory{LastFull: now.Add(-time.Hour), Copied: now.Add(-time.Hour), Fingerprint: p.Fingerprint()}
			r := &run{Job: &Job{Profile: p, Dir: t.TempDir()}, memory: &m, source: source, tree: &tree{}}
			if test.catalog != nil {
				if err := new(scan.Update).Write(test.catalog(r.Dir)); err != nil {
					t.Fatal(err)
				}
			}
			if test.change != nil {
				test.change(r)
			}
			r.chooseMode(&changes.Batch{Cut: now, Watch: changes.Status{Backend: "fanotify", Source: source}, Gaps: test.gaps})
			if r.record.Mode != modeFull || (r.catalog != nil) != test.want || r.catalogAlone() != test.alone {
				t.Errorf("mode %s (%s); catalog: %v, alone: %v", r.record.Mode, r.record.Reason, r.catalog != nil, r.catalogAlone())
			}
		})
	}
}

func TestFullBecause(t *testing.T) {
	p := profile.Default("/src", target(t, "/dst"))
	now := time.Now()
	known := memory{LastFull: now.Add(-time.Hour), Copied: now.Add(-time.Hour), Fingerprint: p.Fingerprint()}
	source := changes.Source{Path: "/src", OneFileSystem: true}
	watched := changes.Status{Backend: "fanotify", Source: source}
	for _, test := range []struct {
		name   string
		change func(r *run, b *changes.Batch)
		want   string // begins so
		since  time.Duration
	}{
		{"nothing", func(r *run, b *changes.Batch) {}, "", 0},
		{"first", func(r *run, b *changes.Batch) { *r.memory = memory{} }, "it is the first run", 0},
		{"asked for", func(r *run, b *changes.Batch) { r.Full = true }, "it was asked for", 0},
		{"accepted", func(r *run, b *changes.Batch) { r.Accept = true }, "source and target were accepted", time.Hour},
		{"owed", func(r *run, b *changes.Batch) { r.memory.Owed = "it is owed" }, "it is owed", time.Hour},
		{"unwritten", func(r *run, b *changes.Batch) { r.memory.Unwritten = true }, "what a full run copied may not", 0},
		{"another target", func(r *run, b *changes.Batch) { r.retargeted = true }, "the profile has another target", time.Hour},
		{"misheard before", func(r *run, b *changes.Batch) {
			r.memory.Misheard = true
			b.Gaps = []changes.Gap{{Reason: "restart", Subtree: ".", Since: now.Add(-time.Minute)}}
		}, "changes may have been missed: restart", time.Hour},
		{"profile", func(r *run, b *changes.Batch) { r.memory.Fingerprint = "other" }, "the profile has changed", 0},
		{"old", func(r *run, b *changes.Batch) { r.memory.LastFull = now.Add(-8 * 24 * time.Hour) }, "the last full run was at", 0},
		{"old, never", func(r *run, b *changes.Batch) {
			r.memory.LastFull, r.Profile.FullEvery = now.Add(-1000*24*time.Hour), 0
		}, "", 0},
		{"gap", func(r *run, b *changes.Batch) {
			b.Gaps = []changes.Gap{{Reason: "overflow", Subtree: ".", Since: now.Add(-time.Minute)}}
		}, "changes may have been missed: overflow", time.Minute},
		{"gap since for ever", func(r *run, b *changes.Batch) { b.Gaps = []changes.Gap{{Reason: "new", Subtree: "."}} }, "changes may have been missed: new", time.Hour},
		{"two gaps", func(r *run, b *changes.Batch) {
			b.Gaps = []changes.Gap{{Reason: "a", Subtree: ".", Since: now.Add(-time.Minute)}, {Reason: "b", Subtree: ".", Since: now.Add(-2 * time.Minute)}}
		}, "changes may have been missed: b", 2 * time.Minute},
		{"gap of a part", func(r *run, b *changes.Batch) { b.Gaps = []changes.Gap{{Reason: "mount", Subtree: "m"}} }, "", 0},
		{"gap and asked for", func(r *run, b *changes.Batch) {
			r.Full = true
			b.Gaps = []changes.Gap{{Reason: "overflow", Subtree: ".", Since: now.Add(-time.Minute)}}
		}, "it was asked for", time.Minute},
		{"watched otherwise", func(r *run, b *changes.Batch) { b.Watch.Source.Skip = []string{"/src/x"} }, "the watcher watches /src by another version", time.Hour},
	} {
		t.Run(test.name, func(t *testing.T) {
			profile, memory := *p, known
			r := &run{Job: &Job{Profile: &profile}, memory: &memory, source: source}
			b := &changes.Batch{Cut: now, Watch: watched}
			test.change(r, b)
			got := r.fullBecause(b, r.missed(b))
			if !strings.HasPrefix(got, test.want) || got != "" && test.want == "" {
				t.Errorf("got %q, want %q", got, test.want)
			}
			var since time.Duration
			if !r.modifiedSince.IsZero() {
				since = now.Sub(r.modifiedSince)
			}
			if since != test.since {
				t.Errorf("modified since %v ago, want %v", since, test.since)
			}
		})
	}
}

// TestSurvey finds what neither sizes nor times tell after a gap: swapped files and directories.
func TestSurvey(t *testing.T) {
	root := sourceOf(t, `
mkdir a b c; for d in a b c; do echo $d >$d/f; echo $d >$d-f; done
touch -d 2020-01-01 a-f b-f */f; touch -d 2020-01-02 a b c; ln a-f a-link`)
	// The source's clock moves in ticks.
	stamp := filepath.Join(t.TempDir(), "stamp")
	began := time.Now()
	for deadline := began.Add(5 * time.Second); ; {
		write(t, stamp, "")
		if info, err := os.Stat(stamp); err != nil || time.Now().After(deadline) {
			t.Fatal("the clock stands still", err)
		} else if info.ModTime().After(began) {
			began = info.ModTime()
			break
		}
	}
	change(t, root, `mv a x; mv b a; mv x b; mv c-f x; mv b-f c-f; mv x b-f; rm a-link`)
	r := &run{memory: &memory{}, tree: treeOf(t, root), modifiedSince: began.Add(ctimeMargin)}
	p := newPlanner(r.tree)
	entries, err := r.survey(t.Context(), p, newLinkFinder(r.tree))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := planned(t, p, ""), "content a-f b-f c-f|subtrees a b"; got != want || entries != 9 {
		t.Errorf("got %q of %d entries, want %q", got, entries, want)
	}
}

// TestUnripeStays copies what is young and keeps it pending, which is no failure.
func TestUnripeStays(t *testing.T) {
	source := sourceOf(t, `echo x >f; mkdir d; touch -d '2 hours ago' d`)
	to := filepath.Join(t.TempDir(), "dst")
	j := jobOf(t, source, to)
	if err := changes.Add(Journal(j.Dir), []changes.Change{{Path: "f", Kind: changes.Content, Since: time.Now()}, {Path: "d", Kind: changes.Attributes, Since: time.Now()}}); err != nil {
		t.Fatal(err)
	}
	for _, ripe := range []time.Duration{time.Hour, 0} {
		r := &run{Job: j, source: WatchedSource(j.Profile, j.Own), ripe: ripe}
		rec, err := r.recorded(t.Context())
		if err != nil || rec.State != logs.OK || rec.Errors != 0 {
			t.Fatalf("%+v: %v", rec, err)
		}
		same(t, source, to)
		pending, _, err := changes.Pending(Journal(j.Dir))
		if err != nil {
			t.Fatal(err)
		}
		want := 0
		if ripe > 0 {
			want = 1
		}
		if len(pending) != want || want == 1 && (pending[0].Path != "f" || pending[0].Attempts != 0 || pending[0].Error != "") {
			t.Errorf("with %v: %+v", ripe, pending)
		}
	}
}

func TestStillPending(t *testing.T) {
	root := sourceOf(t, `mkdir -p d/sub e back; touch d/f back-file`)
	known := changes.Change{Path: "d/f", Kind: changes.Attributes, Since: time.Unix(1, 0), Attempts: 2, Error: "before"}
	for _, test := range []struct {
		name   string
		mode   string
		plan   plan
		failed rsync.Failure
		want   changes.Change
	}{
		{"known", modeChanges, plan{}, rsync.Failure{Path: "d/f", Reason: "now"}, changes.Change{Path: "d/f", Kind: changes.Attributes, Attempts: 3, Error: "now"}},
		{"unknown file", modeFull, plan{}, rsync.Failure{Path: "other", Reason: "now"}, changes.Change{Path: "other", Kind: changes.Content, Attempts: 1, Error: "now"}},
		{"listed directory", modeChanges, plan{}, rsync.Failure{Path: "d", Reason: "mkdir"}, changes.Change{Path: "d", Kind: changes.Content, Attempts: 1, Error: "mkdir"}},
		{"directory below a subtree", modeChanges, plan{subtrees: []string{"d"}}, rsync.Failure{Path: "d/sub", Reason: "opendir"}, changes.Change{Path: "d/sub", Kind: changes.Subtree, Attempts: 1, Error: "opendir"}},
		{"directory beside a subtree", modeChanges, plan{subtrees: []string{"d/s", "e"}}, rsync.Failure{Path: "d/sub", Reason: "opendir"}, changes.Change{Path: "d/sub", Kind: changes.Content, Attempts: 1, Error: "opendir"}},
		{"directory of a full run", modeFull, plan{}, rsync.Failure{Path: "e", Reason: "opendir"}, changes.Change{Path: "e", Kind: changes.Subtree, Attempts: 1, Error: "opendir"}},
		{"its owner only", modeFull, plan{}, rsync.Failure{Path: "e", Reason: `chown "/t/e" failed`}, changes.Change{Path: "e", Kind: changes.Attributes, Attempts: 1, Error: `chown "/t/e" failed`}},
		{"the source", modeFull, plan{}, rsync.Failure{Path: ".", Reason: "opendir"}, changes.Change{Path: ".", Kind: changes.Content, Attempts: 1, Error: "opendir"}},
		{"come back", modeChanges, plan{gone: []string{"back", "back-file", "never"}}, rsync.Failure{Path: "x", Reason: "x"}, changes.Change{Path: "back", Kind: changes.Subtree}},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := &run{tree: treeOf(t, root), record: logs.Run{Mode: test.mode}}
			r.result.Failed = []rsync.Failure{test.failed}
			test.plan.changes = map[string]changes.Change{"d/f": known}
			got, err := r.stillPending(t.Context(), &test.plan)
			if err != nil {
				t.Fatal(err)
			}
			if max := 1 + len(test.plan.gone)/3; len(got) != max {
				t.Fatalf("%+v", got)
			}
			last := got[len(got)-1]
			last.Since = time.Time{}
			if last != test.want {
				t.Errorf("got %+v, want %+v", last, test.want)
			}
			if owed := r.incomplete(); (owed != "") != (test.failed.Path == ".") {
				t.Errorf("owed: %q", owed)
			}
		})
	}
}

func sealed(text string) string { return text + sumOf([]byte(text)) }

func TestMemory(t *testing.T) {
	for content, want := range map[string]string{
		sealed("{}"):              "",
		sealed(`{"entries": 3}`):  "",
		"":                        "it is damaged",
		"{}":                      "it is damaged",
		sealed("{"):               "unexpected end of JSON input",
		sealed("\x00\x00"):        "invalid character",
		`{"version": 2}`:          "another release",
		sealed(`{"version": 2}`):  "another release",
		sealed(`{"source": "x"}`): "cannot unmarshal",
	} {
		dir := t.TempDir()
		write(t, dir+"/memory.json", content)
		m, err := recall(dir)
		switch {
		case want == "" && err != nil:
			t.Errorf("%q: %v", content, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), dir)):
			t.Errorf("%q: got %v, want %s", content, err, want)
		case want == "":
			if err := m.save(); err != nil {
				t.Error(err)
			}
			if again, err := recall(dir); err != nil || again.Entries != m.Entries || again.Version != memoryVersion {
				t.Errorf("%q came back as %+v, %v", content, again, err)
			}
		}
	}
}

// TestRemote makes the target on another machine, and knows it from then on.
func TestRemote(t *testing.T) {
	server := rsynctest.StartSSH(t)
	source := sourceOf(t, `mkdir d; echo x >d/f`)
	to := filepath.Join(t.TempDir(), "dst")
	j := jobOf(t, source, server.Host+":"+to, "--rsh="+server.Shell)
	run1(t, j)
	same(t, source, to)
	m, err := recall(j.Dir)
	if err != nil || m.Target == (identity{}) {
		t.Fatalf("after its first run the target is %v, %v", m.Target, err)
	}
	if err := os.Rename(to, to+".old"); err != nil {
		t.Fatal(err)
	}
	var skipped *SkippedError
	if r, err := j.Run(t.Context()); m.Target.FileSystem != "" && !errors.As(err, &skipped) {
		t.Errorf("%+v: %v", r, err)
	}
}
