/** What the file system can refuse, as reasons that name the path and the remedy. */
import { Schema } from "effect"

export class DiskFull extends Schema.TaggedError<DiskFull>()("DiskFull", { path: Schema.String }) {
  override get message() {
    return `no space left on the device while writing ${this.path}: free some space (\`exp ls\` shows what is kept where) and run the same command again; nothing that was finished is lost`
  }
}

export class PermissionDenied extends Schema.TaggedError<PermissionDenied>()("PermissionDenied", {
  path: Schema.String,
  operation: Schema.String
}) {
  override get message() {
    return `${this.operation} ${this.path} is not permitted: make it readable and writable for this user, or name another folder with --warehouse`
  }
}

export class FileTrouble extends Schema.TaggedError<FileTrouble>()("FileTrouble", {
  path: Schema.String,
  operation: Schema.String,
  detail: Schema.String
}) {
  override get message() {
    return `${this.operation} ${this.path} failed: ${this.detail}`
  }
}

export type FileFailure = DiskFull | PermissionDenied | FileTrouble

const isErrno = (cause: unknown): cause is NodeJS.ErrnoException => cause instanceof Error && "code" in cause

/** The operating system's name of what went wrong (`ENOENT`, ...), if it was the operating system. */
export const errnoOf = (cause: unknown): string | undefined => (isErrno(cause) ? cause.code : undefined)

/** Sorts a thrown file-system error into its reason. */
export const fileFailure =
  (operation: string, path: string) =>
  (cause: unknown): FileFailure => {
    if (cause instanceof DiskFull || cause instanceof PermissionDenied || cause instanceof FileTrouble) return cause
    const at = isErrno(cause) && typeof cause.path === "string" ? cause.path : path
    switch (errnoOf(cause)) {
      case "ENOSPC":
      case "EDQUOT":
        return new DiskFull({ path: at })
      case "EACCES":
      case "EPERM":
      case "EROFS":
        return new PermissionDenied({ path: at, operation })
      default:
        return new FileTrouble({ path: at, operation, detail: cause instanceof Error ? cause.message : String(cause) })
    }
  }
