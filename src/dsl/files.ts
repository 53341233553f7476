/**
 * Outside files that parameters name: found, hashed, and put in place of the string that the YAML had.
 */
import { readdir, stat } from "node:fs/promises"
import { isAbsolute, join, relative, resolve, sep } from "node:path"
import { SchemaAST } from "effect"
import { hashFile } from "../artifact/folder.ts"
import { hashOf } from "./canonical.ts"
import { type Entry, type Located, locate } from "./located.ts"
import { elsewhere, openSection } from "./outside.ts"
import { type Ast, fileAt, members, ownAt, step } from "./paths.ts"
import { type Problem, problemAt } from "./problems.ts"
import { isFile } from "./resolve.ts"

/** Hashes of files already seen in this process, by path, size, modification time and inode. */
const seen = new Map<string, Promise<string>>()

/** Every arm at every point of a sweep names the same model: gigabytes are read once a command. */
const hashOnce = async (file: string): Promise<string> => {
  const { ino, mtimeMs, size } = await stat(file)
  const id = `${file}\0${size}\0${mtimeMs}\0${ino}`
  const known = seen.get(id) ?? hashFile(file).then(({ sha256 }) => sha256)
  seen.set(id, known)
  return known
}

/** Of a file the hash of its bytes, of a folder that of its sorted (relative path, hash) list; hidden files left out. */
export const hashPath = async (path: string): Promise<string> => {
  if (!(await stat(path)).isDirectory()) return hashOnce(path)
  const entries = await readdir(path, { recursive: true, withFileTypes: true })
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(path, join(entry.parentPath, entry.name)).split(sep).join("/"))
    .filter((name) => !name.split("/").some((part) => part.startsWith(".")))
    .sort()
  const hashes: Array<readonly [string, string]> = []
  for (const name of files) hashes.push([name, await hashOnce(join(path, name))])
  return hashOf(hashes)
}

/**
 * Replaces every string that stands where the Schema wants a file by a `FileRef` as JSON.
 * @param folderOf the absolute folder that a place's relative paths start from
 */
export const resolveFiles = async (
  node: Located,
  ast: Ast,
  folderOf: (file: string) => string
): Promise<{ readonly value: Located; readonly problems: ReadonlyArray<Problem> }> => {
  const problems: Array<Problem> = []
  const go = async (value: Located, here: Ast): Promise<Located> => {
    if (value._tag === "Map") {
      const own = ownAt(here)
      if (own !== undefined) {
        const opened = await openSection(value, own, here, folderOf, go)
        // A file that was not found stays a string, which is no second fault.
        const said = new Set(problems.map((p) => `${p.file}:${p.line}:${p.col}`))
        problems.push(...opened.problems.filter((p) => !said.has(`${p.file}:${p.line}:${p.col}`)))
        return opened.value
      }
      const entries = new Map<string, Entry>()
      for (const [key, entry] of value.entries) {
        if (elsewhere(here, key, entry.value)) continue
        const inner = step(here, key)
        entries.set(key, inner === undefined ? entry : { key: entry.key, value: await go(entry.value, inner) })
      }
      return { ...value, entries }
    }
    if (value._tag === "List") {
      const item = members(here).flatMap((m) => (SchemaAST.isArrays(m) ? [...m.elements, ...m.rest] : []))[0]
      return item === undefined
        ? value
        : { ...value, items: await Promise.all(value.items.map((one) => go(one, item))) }
    }
    const wanted = fileAt(here)
    if (wanted === undefined || wanted.as === "code" || typeof value.value !== "string") return value
    const word = value.value
    if (members(here).some((m) => SchemaAST.isLiteral(m) && m.literal === word)) return value
    const put = (path: string, sha256: string) => locate({ _tag: "File", path, sha256 }, value.at)
    if (word.startsWith("hf://")) {
      if (!wanted.hub) problems.push(problemAt(value.at, "expected a local path", "download it first"))
      else if (!/^hf:\/\/[^/@\s]+\/[^/@\s]+@[^@\s]+$/.test(word)) {
        problems.push(
          problemAt(value.at, `${word} names no revision`, "write hf://org/name@revision, a commit hash best")
        )
      } else return put(word, "")
      return value
    }
    const path = isAbsolute(word) ? word : resolve(folderOf(value.at.file), word)
    if (wanted.as === "word" && (!/[/.]/.test(word) || !isFile(path))) return value
    try {
      return put(path, await hashPath(path))
    } catch (cause) {
      const missing = cause instanceof Error && "code" in cause && cause.code === "ENOENT"
      problems.push(
        problemAt(
          value.at,
          missing ? `no file or folder ${path}` : `cannot read ${path}: ${String(cause)}`,
          "paths are relative to the file that says them"
        )
      )
      return value
    }
  }
  return { value: await go(node, ast), problems }
}
