package writers

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"rsince/testscripts/disk"
)

// BenchmarkFind looks at 50 processes of 200 descriptors: half are sockets, a quarter files to read,
// a quarter files to write.
func BenchmarkFind(b *testing.B) {
	const processes, descriptors = 50, 200
	dir := disk.New(b, "ext4")
	for i := range processes {
		child(b, nil, "many", dir, fmt.Sprint(i), fmt.Sprint(descriptors))
	}
	before := len(findIn(b, sourceAt(dir)).Files)
	if want := processes * descriptors / 4; before != want {
		b.Fatalf("found %d files, want %d", before, want)
	}
	used := cpuTime(b)
	for b.Loop() {
		findIn(b, sourceAt(dir))
	}
	b.ReportMetric(float64(cpuTime(b)-used)/float64(b.N), "cpu-ns/op")
}

// cpuTime is what this process has had of the processors, in ns; the rest of a busy machine is not in it.
func cpuTime(b *testing.B) int64 {
	b.Helper()
	var usage unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

// holdMany holds args[2] descriptors, with files in the directory args[0].
func holdMany(args []string) error {
	var n int
	fmt.Sscan(args[2], &n)
	for i := range n {
		var err error
		switch path := fmt.Sprintf("%s/%s.%d", args[0], args[1], i); i % 4 {
		case 0:
			_, err = unix.Open(path, unix.O_WRONLY|unix.O_CREAT, 0o600)
		case 1:
			_, err = unix.Open(os.Args[0], unix.O_RDONLY, 0)
		default:
			_, err = unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
