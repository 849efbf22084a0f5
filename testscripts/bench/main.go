// Bench measures rsince beside the programs that do parts of its work: whole processes, in turn, on
// one tree, in one run. The machine may be busy with other things, so what counts is the ratio.
//
//	tree ─▶ contests: every contender in turn, round after round ─▶ series ─▶ rows ─▶ table
//
// It is run as root from the module:
//
//	go run ./testscripts/bench
//
// The tree and its two copies need about 10 GB and 2.4 million inodes on a file system with blocks
// of 4 KiB. With -dirs 2000 all is small.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// options are the flags.
type options struct {
	dir     string
	dirs    int
	rounds  int
	program string
	only    string
	keep    bool
}

func main() {
	if len(os.Args) == 4 && os.Args[1] == writeCommand {
		exit(appendToAll(os.Args[2], os.Args[3]))
	}
	if len(os.Args) == 3 && os.Args[1] == discardCommand {
		exit(discardEvents(os.Args[2]))
	}
	if len(os.Args) == 3 && os.Args[1] == walkCommand {
		exit(walk(os.Args[2]))
	}
	var o options
	flag.StringVar(&o.dir, "dir", os.TempDir(), "make the tree in a new directory in `DIR`, on a disk")
	flag.IntVar(&o.dirs, "dirs", 71_169, "directories in the tree; each holds 10 files")
	flag.IntVar(&o.rounds, "n", 5, "rounds: how often each contender runs")
	flag.StringVar(&o.program, "rsince", "", "measure this `PROGRAM` (default: build it from this module)")
	flag.StringVar(&o.only, "only", strings.Join(groupNames(), ","), "measure only these `GROUPS`")
	flag.BoolVar(&o.keep, "keep", false, "keep the tree and its copies")
	flag.Parse()
	if flag.NArg() > 0 {
		exit(fmt.Errorf("no argument is expected: %s", flag.Arg(0)))
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, o, os.Stdout)
	stop()
	exit(err)
}

func exit(err error) {
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, o options, out io.Writer) error {
	wanted := strings.Split(o.only, ",")
	for _, name := range wanted {
		if !slices.Contains(groupNames(), name) {
			return fmt.Errorf("-only: %q is none of %s", name, strings.Join(groupNames(), ", "))
		}
	}
	if o.dirs < 20 || o.rounds < 1 {
		return errors.New("-dirs must be at least 20, and -n at least 1")
	}
	if err := checkDisk(o.dir, o.dirs); err != nil {
		return err
	}
	dir, err := os.MkdirTemp(o.dir, "rsince-bench-")
	if err != nil {
		return err
	}
	err = measureIn(ctx, dir, o, wanted, out)
	if o.keep {
		fmt.Fprintf(os.Stderr, "kept: %s\n", dir)
		return err
	}
	progress("removing %s", dir)
	return errors.Join(err, os.RemoveAll(dir))
}

// measureIn makes the tree in dir, measures the wanted groups, and prints what it has when it ends,
// also when it ends early.
func measureIn(ctx context.Context, dir string, o options, wanted []string, out io.Writer) error {
	dir, err := filepath.EvalSymlinks(dir) // a source is watched by its real path
	if err != nil {
		return err
	}
	if o.program == "" {
		o.program = filepath.Join(dir, "rsince")
		if _, err := output(ctx, "go", "build", "-o", o.program, "rsince"); err != nil {
			return err
		}
	}
	facts, err := machine(ctx, dir)
	if err != nil {
		return err
	}
	progress("making %d directories and %d files in %s", o.dirs, o.dirs*filesPerDir, dir)
	source, err := makeTree(ctx, filepath.Join(dir, "source"), o.dirs)
	if err != nil {
		return err
	}
	b := &bench{dir: dir, program: o.program, rounds: o.rounds, tree: source}
	for _, g := range groups() {
		if err == nil && slices.Contains(wanted, g.name) {
			err = g.measure(b, ctx)
		}
	}
	fmt.Fprintf(out, "%s\ntree: %d directories, %d files of %d bytes; medians of %d rounds (least–most)\n\n",
		facts, o.dirs, o.dirs*filesPerDir, fileSize, o.rounds)
	return errors.Join(err, printTable(out, b.rows), b.failures())
}

// progress tells the person who waits what is being done.
func progress(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
}
