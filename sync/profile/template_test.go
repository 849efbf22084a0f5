package profile

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// The template says what holds without it, as it is and with every default written out; and every key
// is there with its own line of explanation.
func TestTemplate(t *testing.T) {
	const source, target = "/no/a \"b\" \\ \n\x7f é", "me@host:/no/\tc"
	text := string(Template(source, target))
	uncommented := regexp.MustCompile(`(?m)^#([^ \n])`).ReplaceAllString(text, "$1")
	if text == uncommented {
		t.Fatal("the template has no defaults")
	}
	parsed, err := ParseTarget(target)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{text, uncommented} {
		file := write(t, "home.toml", text)
		got, err := Read(file)
		if err != nil {
			t.Fatalf("%v in\n%s", err, text)
		}
		want := Default(source, parsed)
		want.Name, want.File = "home", file
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v, want\n%+v from\n%s", got, want, text)
		}
	}
	found, err := settings(uncommented, tables)
	if err != nil || len(found) != len(keys) {
		t.Fatalf("the template has %d keys of %d: %v", len(found), len(keys), err)
	}
	lines := strings.Split(text, "\n")
	for _, s := range found {
		if s.line < 2 || !strings.HasPrefix(lines[s.line-2], "# ") {
			t.Errorf("%s has no explanation", s.key)
		}
	}
}

// A name that TOML cannot hold is refused, not taken for another one.
func TestTemplateNotUTF8(t *testing.T) {
	if p, err := Read(write(t, "home.toml", string(Template("/no/\xff", "/no/b")))); err == nil {
		t.Errorf("the source is %q", p.Source)
	}
}
