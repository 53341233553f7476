/**
 * Compiled programs on disk, keyed by program, options and plugin: loading one again takes a tenth of compiling it. An entry
 * carries the digest of its bytes; one that does not match, or that the plugin refuses, is dropped, compiled again, and said.
 * Entries are written beside their place and renamed, so processes may share a folder.
 */
import { createHash } from "node:crypto"
import { mkdirSync, readdirSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeFileSync } from "node:fs"
import { join } from "node:path"

const magic = Buffer.from("overtone-xla-1\n")
const digestBytes = 32

/** Bytes that a folder may hold; entries that were not used for longest go first. */
const mostBytes = 4 * 2 ** 30

export type Found = { readonly bytes: Uint8Array } | { readonly damaged: string } | undefined

export class ExecutableCache {
  readonly folder: string
  readonly #identity: string

  /** @param identity tells plugins, drivers and instruction sets apart. */
  constructor(folder: string, identity: string) {
    this.folder = folder
    this.#identity = identity
  }

  key(text: string, options: Uint8Array): string {
    const hash = createHash("sha256")
    for (const part of [this.#identity, text]) hash.update(`${Buffer.byteLength(part)}\n`).update(part)
    return hash.update(options).digest("hex")
  }

  #file(key: string): string {
    return join(this.folder, `${key}.xla`)
  }

  find(key: string): Found {
    const file = this.#file(key)
    let whole: Buffer
    try {
      whole = readFileSync(file)
    } catch {
      return undefined
    }
    const body = whole.subarray(magic.length + digestBytes)
    const digest = whole.subarray(magic.length, magic.length + digestBytes)
    if (!whole.subarray(0, magic.length).equals(magic))
      return { damaged: `${file} does not begin as an executable of ours` }
    if (!createHash("sha256").update(body).digest().equals(digest)) return { damaged: `${file} is damaged (digest)` }
    try {
      const now = new Date()
      utimesSync(file, now, now)
    } catch {
      // another process made room meanwhile, or the folder is only to be read: the bytes are whole
    }
    return { bytes: body }
  }

  /** Keeps an executable. A folder that cannot be written to costs time, not the run: the reason comes back. */
  keep(key: string, bytes: Uint8Array): string | undefined {
    const file = this.#file(key)
    const beside = `${file}.${process.pid}.new`
    try {
      mkdirSync(this.folder, { recursive: true })
      writeFileSync(beside, Buffer.concat([magic, createHash("sha256").update(bytes).digest(), bytes]))
      renameSync(beside, file)
      this.#shrink()
      return undefined
    } catch (error) {
      rmSync(beside, { force: true })
      return `${file} cannot be written: ${error instanceof Error ? error.message : error}`
    }
  }

  drop(key: string): void {
    rmSync(this.#file(key), { force: true })
  }

  #shrink(): void {
    const files = readdirSync(this.folder)
      .filter((name) => name.endsWith(".xla"))
      .flatMap((name) => {
        const path = join(this.folder, name)
        const stat = statSync(path, { throwIfNoEntry: false })
        return stat === undefined ? [] : [{ path, bytes: stat.size, used: stat.mtimeMs }]
      })
      .sort((a, b) => b.used - a.used)
    let sum = 0
    for (const { bytes, path } of files) {
      sum += bytes
      if (sum > mostBytes) rmSync(path, { force: true })
    }
  }
}
