package main

import (
	"io/fs"
	"os"
	"path/filepath"
)

const docPath = "share/doc/procmem"

// docs writes the pages of the source, in folders as there: their links to each other hold.
func (r *release) docs(arch string) error {
	pages, err := filepath.Glob(filepath.Join(r.source, "*.md"))
	if err != nil {
		return err
	}
	err = filepath.WalkDir(filepath.Join(r.source, "docs"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && filepath.Ext(path) == ".md" {
			pages = append(pages, path)
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, page := range pages {
		b, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(r.source, page)
		if err != nil {
			return err
		}
		if err := r.put(arch, filepath.Join(docPath, name), b); err != nil {
			return err
		}
	}
	return nil
}
