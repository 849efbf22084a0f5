package profile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

const suffix = ".toml"

// Load returns the profiles of dir/*.toml, sorted by name. Those that are wrong, and those that are
// in each other's way, are left out, and the error tells everything that is wrong with them; the
// others are returned also with an error. As in a shell, * does not match a leading dot. A dir that
// does not exist is an fs.ErrNotExist.
func Load(dir string) ([]*Profile, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("looking for profiles: %w", err)
	}
	var profiles []located
	var errs []error
	for _, entry := range entries {
		name := entry.Name()
		if strings.HasPrefix(name, ".") || !strings.HasSuffix(name, suffix) {
			continue
		}
		p, err := read(filepath.Join(dir, name))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		profiles = append(profiles, p)
	}
	slices.SortFunc(profiles, func(a, b located) int { return strings.Compare(a.Name, b.Name) })
	good, err := separate(profiles)
	return good, errors.Join(append(errs, err)...)
}

// Read returns the profile in file. The error is made of an Error for each thing that is wrong in
// it, or tells why it cannot be read.
func Read(file string) (*Profile, error) {
	p, err := read(file)
	return p.Profile, err
}

// ValidName says why name cannot be the name of a profile.
func ValidName(name string) error {
	switch {
	case name == "":
		return errors.New("the name is empty")
	case len(name) > 64:
		return fmt.Errorf("the name has %d bytes, 64 are allowed", len(name))
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("the name begins with %q", name[0])
	}
	for _, r := range name {
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-", r) {
			return fmt.Errorf("the name holds %q", r)
		}
	}
	return nil
}

// located is a profile and where in its file its target is.
type located struct {
	*Profile
	targetLine int
}

func read(file string) (located, error) {
	text, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return located{}, fmt.Errorf("there is no profile %s: %w", file, fs.ErrNotExist)
	}
	if err != nil {
		return located{}, fmt.Errorf("reading a profile: %w", err)
	}
	name := strings.TrimSuffix(filepath.Base(file), suffix)
	var problems []*Error
	if err := ValidName(name); err != nil {
		problems = append(problems, &Error{
			Line:    1,
			Key:     "file name",
			Wrong:   err.Error(),
			Allowed: `allowed: up to 64 letters, digits, ".", "_", "-", the first no "." or "-"`,
		})
	}
	p := Default("", Target{})
	p.Name, p.File = name, file
	targetLine, wrong := p.decode(string(text))
	if problems = append(problems, wrong...); len(problems) > 0 {
		return located{}, join(file, problems)
	}
	return located{p, targetLine}, nil
}
