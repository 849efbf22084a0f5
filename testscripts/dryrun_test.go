package testscripts

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"rsince/sync/rsync/rsynctest"
)

// A dry run says what the run after it says, whoever watches and whatever the target is. Of what goes to
// another host the bytes are not known before.
func TestDryRun(t *testing.T) {
	for _, backend := range []string{"fanotify", "inotify", "none"} {
		t.Run(backend, func(t *testing.T) {
			s := newSite(t, 0)
			s.profile("p", s.dir+"/dst", "[watch]", fmt.Sprintf("backend = %q", backend))
			s.foretold(backend != "none", duration, dryRunSteps)
		})
	}
	t.Run("ssh", func(t *testing.T) {
		ssh := rsynctest.StartSSH(t)
		s := newSite(t, 0)
		s.profile("p", ssh.Host+":"+s.dir+"/new", "[watch]", `backend = "inotify"`)
		s.option("p", fmt.Sprintf("rsync_options = [%q]", "--rsh="+ssh.Shell))
		s.foretold(true, bytesAndDuration, remoteDryRunSteps)
	})
	t.Run("daemon", func(t *testing.T) {
		s := newSite(t, 0)
		s.profile("p", rsynctest.StartDaemon(t, s.dir+"/dst"), "[watch]", `backend = "none"`)
		s.foretold(false, bytesAndDuration, remoteDryRunSteps)
	})
}

type dryRunStep struct{ change, flags string }

var dryRunSteps = []dryRunStep{
	{`mkdir -p a/deep hd d e empty; for i in 1 2 3 4 5 6; do echo $i >f$i; echo $i >d/$i; echo $i >e/$i; done
	echo 1 >hl1; ln hl1 hl2; ln hl1 hl3; ln hl1 a/hl4; echo 2 >hd/1; ln hd/1 hd/2; echo x >x1; ln x1 x2
	mkfifo p q; ln q q2; ln -s f1 sym; ln -P sym sym2; ln -s f2 lonely; head -c 76k /dev/zero >e/large`, ""},
	{`:`, ""},
	{`:`, "--full"},
	{`echo more >>f1; rm f2; mkdir n; echo x >n/x; ln f1 n/linked; mv d moved`, ""},
	{`echo more >>x1; rm x1`, ""},
	{`rm hl1; ln hl2 hl9`, ""},
	{`touch empty`, ""},
	{`touch .`, ""},
	{`echo more >>hl9; echo y >new; rm f3; ln new newer`, "--full"},
	{`rm hd/2; echo 3 >hd/2; ln f4 f7; rm hl2; ln f4 hl2`, "--full"},
	{`echo z >z`, "--accept"},
	{`chmod 700 a; chmod 600 f4; touch -d yesterday f5`, ""},
	{`rm f5; mkdir f5; echo x >f5/x; rm -r e; echo e >e; rm sym; ln -s f6 sym; rm p; mkfifo p`, ""},
	{`rm q2; mkfifo q2; rm sym2; ln -s elsewhere sym2; ln lonely lonely2`, ""},
	{`rm -r moved; mkdir moved; echo 1 >moved/1; mv moved/1 moved/one; mv a b; mkdir a; mv b a/b`, ""},
	{`mv hd hd2; mv a c; mv hl3 c/hl3; mv empty c`, ""},
	{`mv c a; echo 2 >a/2; mv hd2/1 hd2/3`, "--full"},
}

// remoteDryRunSteps are fewer: a run to another host takes seconds.
var remoteDryRunSteps = []dryRunStep{
	dryRunSteps[0],
	{`echo more >>x1; rm x1 hl1; ln hl2 hl9; rm -r d; echo d >d; mv e f; rm sym p q2; ln -s f6 sym; mkfifo p q2`, ""},
	{`rm hd/2; ln f4 f7; rm hl2; ln f4 hl2; touch empty`, "--accept"},
}

var (
	duration         = regexp.MustCompile(` in \d+\.\d s`)
	bytesAndDuration = regexp.MustCompile(`, [^,]*` + duration.String())
)

// foretold takes steps and fails the test where a dry run says anything but what the run after it says, up to
// the order and what is left out.
func (s *site) foretold(watched bool, leftOut *regexp.Regexp, steps []dryRunStep) {
	s.t.Helper()
	if watched {
		s.startWatcher("p")
	}
	for _, step := range steps {
		change := exec.Command("sh", "-ec", step.change)
		change.Dir = s.dir + "/src"
		if out, err := change.CombinedOutput(); err != nil {
			s.t.Fatalf("%s: %v\n%s", step.change, err, out)
		}
		flags := strings.Fields(step.flags)
		would, stderr := s.said(append([]string{"sync", "-n", "p"}, flags...)...)
		if stderr != "" {
			s.t.Errorf("%s: a dry run complains: %s", step.change, stderr)
		}
		done, _ := s.said(append([]string{"sync", "-v", "p"}, flags...)...)
		lines := func(text string) []string {
			text = leftOut.ReplaceAllString(strings.ReplaceAll(text, "would be ", ""), "")
			return slices.Sorted(strings.Lines(text))
		}
		if would, done := lines(would), lines(done); !slices.Equal(would, done) {
			s.t.Errorf("%s: sync %s\nonly said before:\n%sonly done:\n%s", step.change, step.flags, without(would, done), without(done, would))
		}
	}
}

// said runs rsince and returns what it said.
func (s *site) said(args ...string) (stdout, stderr string) {
	s.t.Helper()
	var out, complaints bytes.Buffer
	cmd := s.command(context.Background(), args...)
	cmd.Stdout, cmd.Stderr = &out, &complaints
	if err := cmd.Run(); err != nil {
		s.t.Errorf("%q: %v", args, err)
	}
	return out.String(), complaints.String()
}

// without gives the lines that are not among the others, or not as often.
func without(lines, others []string) string {
	others = slices.Clone(others)
	var rest strings.Builder
	for _, line := range lines {
		if i := slices.Index(others, line); i >= 0 {
			others = slices.Delete(others, i, i+1)
		} else {
			rest.WriteString(line)
		}
	}
	return rest.String()
}
