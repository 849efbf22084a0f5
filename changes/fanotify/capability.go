package fanotify

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// checkCapabilities says which of the capabilities this package needs is missing.
func checkCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	for _, needed := range []struct {
		bit  uint
		name string
	}{
		{unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
		{unix.CAP_DAC_READ_SEARCH, "CAP_DAC_READ_SEARCH"},
	} {
		if data[0].Effective&(1<<needed.bit) == 0 {
			return fmt.Errorf("fanotify needs the capability %s: %w", needed.name, unix.EPERM)
		}
	}
	return nil
}

// explainInit says what an error of fanotify_init(2) with our flags means.
func explainInit(err error) error {
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("needs the capability CAP_SYS_ADMIN in the first user namespace: %w", err)
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("needs Linux 5.17 or later with CONFIG_FANOTIFY: %w", err)
	case errors.Is(err, unix.EMFILE):
		return fmt.Errorf("too many groups; the limit is sysctl fs.fanotify.max_user_groups: %w", err)
	}
	return err
}
