/**
 * A Python package index, by its simple API (PEP 503 and 691): where the file of a pinned wheel lies. The index is the one
 * that pip and uv would use: PIP_INDEX_URL, UV_DEFAULT_INDEX or UV_INDEX_URL, else pypi.org.
 */
import type { Wheel } from "../plugins.ts"
import { bodyOf, get, shown } from "./http.ts"
import { InstallFailed } from "./InstallFailed.ts"

export const indexUrl = (): URL => {
  const named = ["PIP_INDEX_URL", "UV_DEFAULT_INDEX", "UV_INDEX_URL"].map((name) => process.env[name]).find(Boolean)
  const text = named ?? "https://pypi.org/simple"
  if (!URL.canParse(text)) throw new InstallFailed(`the package index ${text} is no URL`)
  return new URL(text.endsWith("/") ? text : `${text}/`)
}

/** Files of a project's page, in either of its forms: names and addresses. */
export const filesOf = (page: string, type: string, base: URL): ReadonlyMap<string, URL> => {
  const found = new Map<string, URL>()
  if (/json/.test(type)) {
    const { files }: { files?: ReadonlyArray<{ readonly filename: string; readonly url: string }> } = JSON.parse(page)
    for (const { filename, url } of files ?? []) found.set(filename, new URL(url, base))
    return found
  }
  for (const [, href] of page.matchAll(/<a\s[^>]*?href="([^"]+)"/gi)) {
    const url = new URL(href!.replaceAll("&amp;", "&"), base)
    found.set(decodeURIComponent(url.pathname.split("/").at(-1)!), url)
  }
  return found
}

/** The address of a wheel's file. Rejects with InstallFailed, which says what the index has instead. */
export const locateWheel = async ({ file, project, version }: Wheel): Promise<URL> => {
  const page = new URL(`${project}/`, indexUrl())
  // a proxy of an index's own may know the older form only
  const accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.5"
  const { response, url } = await get(page, { accept })
  const body = await bodyOf(response)
  if (response.statusCode !== 200) {
    throw new InstallFailed(`${shown(page)} answers ${response.statusCode}: the index has no project ${project}`)
  }
  const found = filesOf(body, response.headers["content-type"] ?? "", url).get(file)
  if (found !== undefined) return found
  throw new InstallFailed(
    `${shown(page)} has no ${file} (${project} ${version}); take it from elsewhere and give its folder by --from`
  )
}
