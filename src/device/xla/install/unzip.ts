/** Unpacks a wheel, which is a zip archive: stored and deflated files, checked by size and CRC-32, streamed to disk. */
import { createReadStream, createWriteStream, mkdirSync } from "node:fs"
import { type FileHandle, open, writeFile } from "node:fs/promises"
import { dirname, join, normalize, sep } from "node:path"
import { Transform } from "node:stream"
import { pipeline } from "node:stream/promises"
import { crc32, createInflateRaw } from "node:zlib"
import { InstallFailed } from "./InstallFailed.ts"

interface Entry {
  readonly name: string
  readonly deflated: boolean
  readonly crc: number
  readonly compressed: number
  readonly size: number
  readonly offset: number
  /** Unix permission bits; 0 where none are recorded. */
  readonly mode: number
}

const endSignature = 0x06054b50
const entrySignature = 0x02014b50

const readAt = async (file: FileHandle, position: number, length: number): Promise<Buffer> => {
  const buffer = Buffer.alloc(length)
  const { bytesRead } = await file.read(buffer, 0, length, position)
  return buffer.subarray(0, bytesRead)
}

/** The archive's directory. */
const entriesOf = async (file: FileHandle, path: string): Promise<ReadonlyArray<Entry>> => {
  const { size } = await file.stat()
  const tail = await readAt(file, Math.max(0, size - 66_000), Math.min(size, 66_000))
  let end = tail.length - 22
  while (end >= 0 && tail.readUInt32LE(end) !== endSignature) end--
  if (end < 0) throw new InstallFailed(`${path} is no zip archive`)
  const [count, length, start] = [tail.readUInt16LE(end + 10), tail.readUInt32LE(end + 12), tail.readUInt32LE(end + 16)]
  if (count === 0xffff || start === 0xffffffff) throw new InstallFailed(`${path} is a zip archive above 4 GiB`)
  const directory = await readAt(file, start, length)
  const entries: Array<Entry> = []
  for (let at = 0; entries.length < count; ) {
    if (at + 46 > directory.length || directory.readUInt32LE(at) !== entrySignature) {
      throw new InstallFailed(`${path} has a damaged directory`)
    }
    const [name, extra, comment] = [28, 30, 32].map((offset) => directory.readUInt16LE(at + offset)) as [
      number,
      number,
      number
    ]
    const method = directory.readUInt16LE(at + 10)
    if (method !== 0 && method !== 8) throw new InstallFailed(`${path} is packed in a way that is not read (${method})`)
    entries.push({
      name: directory.toString("utf8", at + 46, at + 46 + name),
      deflated: method === 8,
      crc: directory.readUInt32LE(at + 16),
      compressed: directory.readUInt32LE(at + 20),
      size: directory.readUInt32LE(at + 24),
      offset: directory.readUInt32LE(at + 42),
      mode: (directory.readUInt32LE(at + 38) >>> 16) & 0o777
    })
    at += 46 + name + extra + comment
  }
  return entries
}

/** Where an entry goes; never outside the folder. */
const placeOf = (folder: string, { name }: Entry, path: string): string => {
  const inside = normalize(name)
  if (inside.startsWith("..") || inside.startsWith(sep) || /^[A-Za-z]:/.test(inside) || name.includes("\\")) {
    throw new InstallFailed(`${path} holds ${name}, which lies outside of it: it is not unpacked`)
  }
  return join(folder, inside)
}

/** Unpacks an archive into a folder; files that are there already are replaced. Rejects with InstallFailed. */
export const unzip = async (path: string, folder: string): Promise<void> => {
  const file = await open(path)
  try {
    for (const entry of await entriesOf(file, path)) {
      const place = placeOf(folder, entry, path)
      if (entry.name.endsWith("/")) {
        mkdirSync(place, { recursive: true })
        continue
      }
      mkdirSync(dirname(place), { recursive: true })
      const head = await readAt(file, entry.offset, 30)
      const start = entry.offset + 30 + head.readUInt16LE(26) + head.readUInt16LE(28)
      let [crc, size] = [0, 0]
      const counted = new Transform({
        transform(chunk: Buffer, _, done) {
          crc = crc32(chunk, crc)
          size += chunk.length
          done(null, chunk)
        }
      })
      const mode = entry.mode === 0 ? 0o644 : entry.mode | 0o600
      try {
        if (entry.size === 0) await writeFile(place, "", { mode })
        else {
          const source = createReadStream(path, { start, end: start + entry.compressed - 1 })
          const target = createWriteStream(place, { mode })
          if (entry.deflated) await pipeline(source, createInflateRaw(), counted, target)
          else await pipeline(source, counted, target)
        }
      } catch (error) {
        throw new InstallFailed(`${entry.name} of ${path}: ${error instanceof Error ? error.message : error}`)
      }
      if (crc !== entry.crc || size !== entry.size) throw new InstallFailed(`${entry.name} of ${path} is damaged`)
    }
  } finally {
    await file.close()
  }
}
