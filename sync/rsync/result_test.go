package rsync

import (
	"slices"
	"testing"
)

// Of each path one failure stays: the first, but one of attributes only gives way.
func TestOneFailureAPath(t *testing.T) {
	attributes := Failure{Path: "d", Reason: `chown "/t/d" failed`}
	other, later := Failure{Path: "d", Reason: "opendir"}, Failure{Path: "d", Reason: "mkdir"}
	for _, c := range []struct {
		failed []Failure
		want   Failure
	}{
		{[]Failure{attributes, other}, other},
		{[]Failure{other, attributes}, other},
		{[]Failure{attributes, attributes, other, later, attributes}, other},
		{[]Failure{attributes, attributes}, attributes},
	} {
		var total, failed Result
		for _, f := range c.failed {
			total.Add(Result{Failed: []Failure{f, {Path: "e", Reason: "x"}}})
			failed.fail([]string{"d", "e"}, f.Reason)
		}
		for _, res := range []Result{total, failed} {
			if len(res.Failed) != 2 || !slices.Contains(res.Failed, c.want) {
				t.Errorf("%+v: %+v", c.failed, res.Failed)
			}
		}
	}
}

// The same of what one rsync says.
func TestOneFailureAReport(t *testing.T) {
	e := newEngine(t)
	write(t, e.Source, "d/")
	rep := newReport(e, pass{finds: true})
	rep.complaint(`rsync: [generator] failed to set permissions on "` + e.Target + `/d": Operation not permitted (1)`)
	rep.complaint(`rsync: [sender] opendir "` + e.Source + `/d" failed: Permission denied (13)`)
	if err := rep.verdict(nil); err != nil {
		t.Fatal(err)
	}
	if len(rep.Failed) != 1 || rep.Failed[0].OfAttributes() {
		t.Errorf("%+v", rep.Failed)
	}
}
