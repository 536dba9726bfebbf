package docs

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
)

func TestLinks_LeadSomewhere(t *testing.T) {
	t.Parallel()
	pages := readPages(t)
	for _, page := range pages {
		for _, link := range page.links() {
			if err := follow(page, link, pages); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestLinks_NoticeBrokenOne(t *testing.T) {
	t.Parallel()
	from := parsePage("docs/here.md", "# Here\n\nSee [this](#here), [that](../nowhere.md) and [there](there.md#missing).\n")
	pages := []page{from, parsePage("docs/there.md", "# There\n## It's a (nice) `Place_of` 1.0\n```\n# missing\n```\n")}
	links := from.links()
	if len(links) != 3 || follow(from, links[0], pages) != nil {
		t.Fatal("a good link is taken for a broken one:", links)
	}
	for _, link := range links[1:] {
		if follow(from, link, pages) == nil {
			t.Error("not noticed:", link)
		}
	}
	if !slices.Contains(pages[1].anchors(), "its-a-nice-place_of-10") {
		t.Error("headings have other anchors:", pages[1].anchors())
	}
}

var inlineLink = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// links returns the targets within the repository.
func (p page) links() (links []string) {
	_, prose := p.blocks()
	text := codeSpan.ReplaceAllString(strings.Join(prose, "\n"), "")
	for _, match := range inlineLink.FindAllStringSubmatch(text, -1) {
		if !strings.Contains(match[1], "://") && !strings.HasPrefix(match[1], "mailto:") {
			links = append(links, match[1])
		}
	}
	return links
}

func follow(from page, link string, pages []page) error {
	target, anchor, _ := strings.Cut(link, "#")
	name := from.name
	if target != "" {
		name = path.Join(path.Dir(from.name), target)
	}
	i := slices.IndexFunc(pages, func(p page) bool { return p.name == name })
	switch {
	case i < 0:
		if _, err := os.Stat(filepath.Join(root, name)); err != nil || anchor != "" {
			return fmt.Errorf("%s links to %s, which is not there", from.name, link)
		}
	case anchor != "" && !slices.Contains(pages[i].anchors(), anchor):
		return fmt.Errorf("%s links to %s, where no heading is called so", from.name, link)
	}
	return nil
}

// anchors returns what GitHub makes of the headings.
func (p page) anchors() (anchors []string) {
	_, prose := p.blocks()
	for _, line := range prose {
		if heading := strings.TrimLeft(line, "#"); heading != line && strings.HasPrefix(heading, " ") {
			anchors = append(anchors, strings.Map(anchorRune, strings.TrimSpace(heading)))
		}
	}
	return anchors
}

func anchorRune(r rune) rune {
	switch {
	case r == ' ':
		return '-'
	case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
		return unicode.ToLower(r)
	default:
		return -1
	}
}
