package fanotify

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// missing names the environment variable that makes TestOpenRefused the program without rights.
const missing = "RSINCE_TEST_MISSING"

func TestOpenRefused(t *testing.T) {
	if name := os.Getenv(missing); name != "" {
		_, err := Open()
		if err == nil || !strings.Contains(err.Error(), strings.ToUpper("cap_"+name)) {
			t.Errorf("without %s: %v", name, err)
		}
		return
	}
	if os.Getuid() != 0 {
		t.Skip("giving up one capability needs root")
	}
	setpriv, err := exec.LookPath("setpriv")
	if err != nil {
		t.Skip(err)
	}
	for _, name := range []string{"sys_admin", "dac_read_search"} {
		cmd := exec.Command(setpriv, "--bounding-set=-"+name, os.Args[0], "-test.run=^TestOpenRefused$")
		cmd.Env = append(os.Environ(), missing+"="+name)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("without %s: %v\n%s", name, err, out)
		}
	}
}
