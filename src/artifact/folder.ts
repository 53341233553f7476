/**
 * Folders of bytes, seen as a sorted list of files with their hashes. Artifacts and checkpoints are verified by it.
 * Nothing here depends on file times, owners or the order in which a folder lists its entries.
 */
import { createHash } from "node:crypto"
import { type FileHandle, open, readdir } from "node:fs/promises"
import { join } from "node:path"

export interface FileEntry {
  /** Relative to the folder, with `/`. */
  readonly path: string
  readonly bytes: number
  /** Lower-case hexadecimal. */
  readonly sha256: string
}

/** `manifest.json` of a folder; its own text's SHA-256 is the folder's identity. */
export interface Manifest {
  readonly format: 1
  readonly kind: string
  readonly files: ReadonlyArray<FileEntry>
}

/** A folder holds something else than files and folders (a link, a socket), or a name that is reserved. */
export class NotPlain extends Error {
  readonly file: string
  constructor(file: string, detail: string) {
    super(`${file}: ${detail}`)
    this.name = "NotPlain"
    this.file = file
  }
}

const byCodeUnit = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Relative paths of all files below, sorted by code unit. Throws `NotPlain` at links and the like. */
export const listFiles = async (dir: string): Promise<ReadonlyArray<string>> => {
  const found: Array<string> = []
  const walk = async (prefix: string): Promise<void> => {
    for (const entry of await readdir(join(dir, prefix), { withFileTypes: true })) {
      const path = prefix === "" ? entry.name : `${prefix}/${entry.name}`
      if (entry.isDirectory()) await walk(path)
      else if (entry.isFile()) found.push(path)
      else throw new NotPlain(join(dir, path), "only plain files and folders can be kept, and this is neither")
    }
  }
  await walk("")
  return found.sort(byCodeUnit)
}

const chunk = 1 << 20

const hashOpen = async (file: FileHandle): Promise<{ readonly bytes: number; readonly sha256: string }> => {
  const hash = createHash("sha256")
  const buffer = Buffer.allocUnsafe(Math.min(chunk, Math.max((await file.stat()).size, 1)))
  let bytes = 0
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, bytes)
    if (bytesRead === 0) return { bytes, sha256: hash.digest("hex") }
    hash.update(buffer.subarray(0, bytesRead))
    bytes += bytesRead
  }
}

/** Hashes one file in pieces of 1 MiB; with `sync`, its bytes are on disk when this resolves. */
export const hashFile = async (
  path: string,
  options: { readonly sync?: boolean } = {}
): Promise<{ readonly bytes: number; readonly sha256: string }> => {
  const file = await open(path, "r")
  try {
    if (options.sync) await file.sync()
    return await hashOpen(file)
  } finally {
    await file.close()
  }
}

/** All files of a folder with their hashes; with `sync`, everything below is on disk when this resolves. */
export const hashFolder = async (
  dir: string,
  options: { readonly sync?: boolean } = {}
): Promise<ReadonlyArray<FileEntry>> => {
  const entries: Array<FileEntry> = []
  const folders = new Set([dir])
  for (const path of await listFiles(dir)) {
    entries.push({ path, ...(await hashFile(join(dir, path), options)) })
    for (let at = path.lastIndexOf("/"); at > 0; at = path.lastIndexOf("/", at - 1))
      folders.add(join(dir, path.slice(0, at)))
  }
  if (options.sync) for (const folder of folders) await syncFolder(folder)
  return entries
}

/** Makes a folder's own entries (names made, moved, removed) durable. */
export const syncFolder = async (dir: string): Promise<void> => {
  // Windows cannot open folders; its file system journals names by itself.
  if (process.platform === "win32") return
  const handle = await open(dir, "r")
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

export const sha256 = (text: string): string => createHash("sha256").update(text, "utf8").digest("hex")

/** The canonical text of a manifest: keys sorted, files sorted by path, no white space. */
export const manifestText = (kind: string, files: ReadonlyArray<FileEntry>): string =>
  JSON.stringify({
    files: files.map(({ bytes, path, sha256 }) => ({ bytes, path, sha256 })).sort((a, b) => byCodeUnit(a.path, b.path)),
    format: 1,
    kind
  })

/** Identity and size of a folder taken as `kind`. */
export const identify = (kind: string, files: ReadonlyArray<FileEntry>): { sha256: string; bytes: number } => ({
  sha256: sha256(manifestText(kind, files)),
  bytes: files.reduce((sum, file) => sum + file.bytes, 0)
})
