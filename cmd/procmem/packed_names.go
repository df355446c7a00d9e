package main

import "strings"

// tellPackedName warns of a core whose name says that it is compressed, and which is not.
func (j *coreJob) tellPackedName() {
	if j.compress != "" || j.gcore {
		return
	}
	if _, end := packedName(j.prefix, ".zst", ".zstd", ".gz"); end != "" {
		notice("the core is not compressed, although its name has %s: --compress zstd compresses it, and adds .zst to the name", end)
	}
}

// tellArchiveName warns of a folder whose name is that of an archive.
func tellArchiveName(word, out string) {
	if name, end := packedName(out, ".zst", ".zstd", ".gz", ".tgz", ".tar"); end != "" {
		archive := strings.TrimSuffix(name, ".tar") + ".tar.zst"
		notice("%s becomes a folder: for an archive use procmem dump %s -o - | zstd > %s", out, shellWord(word), shellWord(archive))
	}
}

// packedName divides a name before the end that it has of these.
func packedName(name string, ends ...string) (before, end string) {
	for _, end := range ends {
		if before, ok := strings.CutSuffix(name, end); ok {
			return before, end
		}
	}
	return name, ""
}
