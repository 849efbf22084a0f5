package writers

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// A loop is the name of a loop device.
type loop string

// loops returns the loop devices in use.
func loops() (all []holder) {
	files, _ := filepath.Glob("/sys/block/loop*/loop/backing_file") // the pattern is right
	for _, file := range files {
		all = append(all, loop(strings.Split(file, "/")[3]))
	}
	return all
}

func (l loop) String() string { return "the file behind /dev/" + string(l) }

// held returns the backing file, unless the device cannot be written to.
func (l loop) held(m *mounts) ([]held, error) {
	if ro, err := l.attribute("ro"); err != nil || ro == "1" {
		return nil, unlessGone(err)
	}
	path, err := l.attribute("loop/backing_file")
	if err != nil {
		return nil, unlessGone(err)
	}
	id, err := l.backing()
	if errors.Is(err, unix.ENXIO) { // detached meanwhile
		return nil, nil
	}
	if err != nil { // no right to the device, or no node: sysfs tells anybody the path
		st, pathErr := lookHere(path)
		if pathErr != nil {
			return nil, err
		}
		id = st.identity
	}
	if !m.mayHold(id.dev) {
		return nil, nil
	}
	return inSight(m, path, id)
}

// inSight looks for the file in all mount namespaces, for the path is as in the one it was attached in, of
// which no process may be left.
func inSight(m *mounts, path string, id identity) ([]held, error) {
	for _, process := range append([]string{""}, namespaces()...) {
		h := held{process: process, link: path, path: path}
		if process != "" {
			h.link = process + "/root" + path
		}
		var err error
		if h.file, err = lookHere(h.link); err == nil && h.identity == id {
			return []held{h}, nil
		}
	}
	if !m.disks[id.dev] && id.dev != m.root.dev {
		return nil, nil
	}
	return []held{{file: file{identity: id}, path: path}}, nil
}

// attribute reads one of the device's files in sysfs.
func (l loop) attribute(name string) (string, error) {
	value, err := os.ReadFile("/sys/block/" + string(l) + "/" + name)
	return strings.TrimSuffix(string(value), "\n"), err
}

// backing identifies the backing file.
func (l loop) backing() (identity, error) {
	dev, err := unix.Open("/dev/"+string(l), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return identity{}, err
	}
	defer unix.Close(dev)
	info, err := unix.IoctlLoopGetStatus64(dev)
	if err != nil {
		return identity{}, err
	}
	return identity{dev: info.Device, ino: info.Inode}, nil
}

// namespaces returns a process in each mount namespace but this one.
func namespaces() (processes []string) {
	own, _ := os.Readlink("/proc/self/ns/mnt")
	seen := map[string]bool{own: true}
	names, _ := names("/proc")
	for _, name := range names {
		namespace, err := os.Readlink("/proc/" + name + "/ns/mnt")
		if err == nil && !seen[namespace] {
			seen[namespace] = true
			processes = append(processes, "/proc/"+name)
		}
	}
	return processes
}
