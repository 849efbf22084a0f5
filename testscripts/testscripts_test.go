// Package testscripts runs the program as its users meet it: each .txtar file is a session of
// commands and what they are to print.
package testscripts

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"golang.org/x/sys/unix"

	"rsince/sync/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"rsince": func() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) },
	})
}

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: ".",
		Setup: func(env *testscript.Env) error {
			env.Values[watcherKey{}] = &watcherProcess{}
			env.Setenv("C", "--config="+filepath.Join(env.WorkDir, "etc"))
			env.Setenv("S", "--state-dir="+filepath.Join(env.WorkDir, "state"))
			return os.MkdirAll(filepath.Join(env.WorkDir, "etc"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"watcher":  watcher,
			"same":     same,
			"expand":   expand,
			"disk":     diskCommand,
			"exchange": exchange,
			"ahead":    ahead,
		},
		Condition:           condition,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
	})
}

// condition knows [root]; the programs that scripts need are asked for with [exec:NAME].
func condition(cond string) (bool, error) {
	if cond == "root" {
		return os.Geteuid() == 0, nil
	}
	return false, os.ErrInvalid
}

// same fails unless rsync finds nothing to do between two trees, contents compared.
//
//	same SOURCE TARGET [rsync options]
func same(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] same SOURCE TARGET [OPTION...]")
	}
	options := append([]string{"-aHAXn", "--modify-window=-1", "--checksum", "--delete", "-i"}, args[2:]...)
	out, err := exec.Command("rsync", append(options, ts.MkAbs(args[0])+"/", ts.MkAbs(args[1])+"/")...).CombinedOutput()
	ts.Check(err)
	switch {
	case len(out) > 0 && !neg:
		ts.Fatalf("%s and %s differ:\n%s", args[0], args[1], out)
	case len(out) == 0 && neg:
		ts.Fatalf("%s and %s are the same", args[0], args[1])
	}
}

// ahead makes the state that of a machine whose clock was an hour ahead.
//
//	ahead DIR   that of the profile
func ahead(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: ahead DIR")
	}
	ts.Check(clockWasAhead(ts.MkAbs(args[0])))
}

// exchange has two names each lead to what the other one led to.
//
//	exchange NAME NAME
func exchange(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: exchange NAME NAME")
	}
	ts.Check(unix.Renameat2(unix.AT_FDCWD, ts.MkAbs(args[0]), unix.AT_FDCWD, ts.MkAbs(args[1]), unix.RENAME_EXCHANGE))
}

// expand replaces $VARIABLES in files, such as profiles, by those of the script.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	for _, file := range args {
		path := ts.MkAbs(file)
		ts.Check(os.WriteFile(path, []byte(os.Expand(ts.ReadFile(file), ts.Getenv)), 0o644))
	}
}
