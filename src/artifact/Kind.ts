/**
 * An artifact kind says what a stage's input or output is, and how a folder of bytes is read and written as that.
 *
 * Artifacts are folders, content-addressed by the SHA-256 of their manifest (`store.ts`). A kind's name is part of
 * its type, so a pipeline that hands an encoder to a stage that wants a policy does not compile.
 */
export interface Kind<out Name extends string, out Reader, out Writer> {
  /** Stored in the warehouse's `artifacts.kind`. */
  readonly name: Name
  /** What a stage's `run` gets for an input of this kind; `dir` holds verified bytes and must not be written to. */
  readonly read: (dir: string) => Reader
  /** What a stage's `run` gets for an output of this kind; `dir` exists and is empty. */
  readonly write: (dir: string) => Writer
}

export type AnyKind = Kind<string, unknown, unknown>

/** An input that a pipeline may leave out. */
export type Optional<K extends AnyKind = AnyKind> = K & { readonly optional: true; readonly of: K }

export const optional = <K extends AnyKind>(kind: K): Optional<K> => ({ ...kind, optional: true, of: kind })

export type ReaderOf<K> = K extends Kind<string, infer R, unknown> ? R : never
export type WriterOf<K> = K extends Kind<string, unknown, infer W> ? W : never

/** A kind whose reader and writer are just the folder: models, in the layout their own library defines. */
export interface Folder {
  readonly dir: string
}

export const folderKind = <const Name extends string>(name: Name): Kind<Name, Folder, Folder> => ({
  name,
  read: (dir) => ({ dir }),
  write: (dir) => ({ dir })
})
