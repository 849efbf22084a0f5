package rig

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// files connect a machine with this process.
type files struct {
	machine []*os.File // its own ends, in the order of the descriptors below
	output  *os.File   // to read what the script writes
	status  *os.File   // to read its exit code
}

// Descriptors of the kernel process.
const (
	bootFD = 3 + iota
	scriptFD
	outputFD
	statusFD
	firstDiskFD
)

func (m Machine) wire(script string) (*files, error) {
	if len(m.Disks) > maxDisks {
		return nil, fmt.Errorf("%d disks, at most %d are possible", len(m.Disks), maxDisks)
	}
	f := &files{}
	bootFile, bootErr := inMemory("boot", m.boot())
	scriptFile, scriptErr := inMemory("script", script)
	output, outputWriter, outputErr := os.Pipe()
	status, statusWriter, statusErr := os.Pipe()
	f.machine = []*os.File{bootFile, scriptFile, outputWriter, statusWriter}
	f.output, f.status = output, status
	err := errors.Join(bootErr, scriptErr, outputErr, statusErr)
	for _, disk := range m.Disks {
		file, diskErr := os.OpenFile(disk, os.O_RDWR, 0)
		f.machine, err = append(f.machine, file), errors.Join(err, diskErr)
	}
	if err != nil {
		f.closeMachine()
		output.Close() // closing what is nil is no harm
		status.Close()
		return nil, err
	}
	return f, nil
}

func (f *files) closeMachine() {
	for _, file := range f.machine {
		file.Close()
	}
}

// inMemory is a file without a name that the machine sees as a disk: whole blocks, filled with what a
// shell ignores.
func inMemory(name, text string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("memfd_create: %w", err)
	}
	f := os.NewFile(uintptr(fd), name)
	const block = 4096
	if _, err := f.WriteString(text + "\n" + strings.Repeat("\n", block-(len(text)+1)%block)); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// User Mode Linux has eight disks (ubd0 to ubd7); two of them hold the scripts.
const maxDisks = 6

func (m Machine) arguments() []string {
	memory := m.Memory
	if memory == "" {
		memory = "512M"
	}
	args := []string{
		"mem=" + memory, "root=/dev/root", "rootfstype=hostfs", "rootflags=/", "ro", "init=/bin/sh", "quiet", "selinux=0",
		"uml_dir=/proc/self/fd/", // a directory in which it cannot leave its files
		"con=null", "con0=null,fd:1", "ssl=null", fmt.Sprintf("ssl0=null,fd:%d", outputFD), fmt.Sprintf("ssl1=null,fd:%d", statusFD),
		fmt.Sprintf("ubd6r=/proc/self/fd/%d", scriptFD), fmt.Sprintf("ubd7r=/proc/self/fd/%d", bootFD),
	}
	for i := range m.Disks { // commas and colons have a meaning in names
		args = append(args, fmt.Sprintf("ubd%d=/proc/self/fd/%d", i, firstDiskFD+i))
	}
	return append(args, "--", "/dev/ubdh")
}

// boot is the script that is the machine's first process. LVM is told to do without udev.
func (m Machine) boot() string {
	var b strings.Builder
	b.WriteString(`stty -F /dev/ttyS0 raw
exec </dev/null >/dev/ttyS0 2>&1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs tmpfs /run
mount -t tmpfs tmpfs /mnt
mkdir -p /run/lock /run/lvm /run/uml/lib /run/tmp
ln -s /proc/self/fd /dev/fd
ln -s /usr/lib/uml/modules /run/uml/lib/modules
cat >/run/lvm/lvm.conf <<'END'
activation { udev_sync=0 udev_rules=0 monitoring=0 }
global { use_lvmpolld=0 event_activation=0 }
devices { obtain_device_list_from_udev=0 use_devicesfile=0 filter=["a|^/dev/ubd[a-f]|", "r|.*|"] }
END
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/run TMPDIR=/run/tmp LVM_SYSTEM_DIR=/run/lvm
`)
	for _, module := range m.Modules {
		fmt.Fprintf(&b, "modprobe -d /run/uml %s\n", quoted(module))
	}
	if m.Exchange != "" {
		dir := quoted(m.Exchange)
		fmt.Fprintf(&b, "mount -t hostfs -o %s none %s\n", dir, dir)
	}
	// What was killed may keep its file systems busy for a moment. The output has left the kernel when
	// stty returns; whoever reads the status ends the kernel.
	b.WriteString(`sh /dev/ubdg
code=$?
kill -KILL -1
for try in 1 2 3 4 5 6 7 8 9; do
	umount -a -t nohostfs,devtmpfs,proc,sysfs,tmpfs 2>/dev/null && break
	sleep .1
done
sync
stty -F /dev/ttyS0 raw
echo $code >/dev/ttyS1
while :; do sleep 1; done
`)
	return b.String()
}

// quoted is a word as the shell wants it.
func quoted(word string) string { return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'" }
