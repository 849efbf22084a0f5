package main

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// discardCommand is the argument that makes this program a watcher that throws away what it hears: no
// watcher that asks the kernel for as much costs the program that writes less.
const discardCommand = "discard-events"

// discarder asks for the events that rsince asks for.
func discarder(self, source string) watcher {
	return watcher{name: "fanotify, thrown away", args: []string{self, discardCommand, source}, ready: "discarding"}
}

func discardEvents(dir string) error {
	const flags = unix.FAN_CLASS_NOTIF | unix.FAN_REPORT_FID | unix.FAN_REPORT_DIR_FID | unix.FAN_REPORT_NAME | unix.FAN_REPORT_TARGET_FID |
		unix.FAN_UNLIMITED_QUEUE | unix.FAN_CLOEXEC | unix.FAN_NONBLOCK
	const events = unix.FAN_CREATE | unix.FAN_DELETE | unix.FAN_RENAME | unix.FAN_MODIFY | unix.FAN_CLOSE_WRITE | unix.FAN_ATTRIB | unix.FAN_ONDIR
	queue, err := unix.FanotifyInit(flags, unix.O_RDONLY)
	if err != nil {
		return fmt.Errorf("fanotify_init: %w", err)
	}
	if err := unix.FanotifyMark(queue, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, events, unix.AT_FDCWD, dir); err != nil {
		return fmt.Errorf("fanotify_mark: %w", err)
	}
	fmt.Println("discarding")
	buf := make([]byte, 1<<20)
	for {
		if n, err := unix.Read(queue, buf); err != nil && err != unix.EAGAIN && err != unix.EINTR {
			return err
		} else if n <= 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
}
