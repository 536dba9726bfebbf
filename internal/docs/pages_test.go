package docs

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// A page is a Markdown file of the repository.
type page struct {
	name  string // from the root
	lines []string
}

// A block is what stands between two fences.
type block struct {
	page     string
	line     int // of its first line of text, from 1
	language string
	text     string
}

func readPages(t *testing.T) (pages []page) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == ".git" || entry.Name() == "testdata"):
			return filepath.SkipDir
		case entry.IsDir() || filepath.Ext(path) != ".md":
			return nil
		}
		text, err := os.ReadFile(path)
		name, _ := filepath.Rel(root, path)
		pages = append(pages, parsePage(filepath.ToSlash(name), string(text)))
		return err
	})
	if err != nil || len(pages) == 0 {
		t.Fatal("no pages:", err)
	}
	return pages
}

func parsePage(name, text string) page {
	return page{name: name, lines: strings.Split(text, "\n")}
}

func pageNamed(t *testing.T, name string) page {
	t.Helper()
	for _, p := range readPages(t) {
		if p.name == name {
			return p
		}
	}
	t.Fatalf("there is no %s", name)
	return page{}
}

// blocks returns the fenced blocks of the page, and its prose: the lines that are not in one.
func (p page) blocks() (blocks []block, prose []string) {
	var open *block
	var text []string
	for i, line := range p.lines {
		language, fence := strings.CutPrefix(strings.TrimSpace(line), "```")
		switch {
		case fence && open == nil:
			open, text = &block{page: p.name, line: i + 2, language: language}, nil
		case fence:
			open.text = strings.Join(text, "\n")
			blocks, open = append(blocks, *open), nil
		case open != nil:
			text = append(text, line)
		default:
			prose = append(prose, line)
		}
	}
	return blocks, prose
}

// goBlocks returns the Go of the page.
func (p page) goBlocks() []block {
	blocks, _ := p.blocks()
	return slices.DeleteFunc(blocks, func(b block) bool { return b.language != "go" })
}

var codeSpan = regexp.MustCompile("`[^`]+`")

// code returns what the page shows as code that is not Go: the spans of its prose, and
// its other blocks.
func (p page) code() string {
	blocks, prose := p.blocks()
	spans := codeSpan.FindAllString(strings.Join(prose, "\n"), -1)
	for _, block := range blocks {
		if block.language != "go" {
			spans = append(spans, block.text)
		}
	}
	return strings.Join(spans, "\n")
}
