import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createSecureContext } from 'node:tls'
import { GopherQueueError } from '../model/errors.ts'

/** Paths of PEM files. */
export interface TlsFiles {
  /** The certificate, and those between it and the root. */
  cert: string
  key: string
}

/** What the files hold, after proof that it can be used, and when the certificate expires (Unix ms). Throws INVALID_ARGUMENT. */
export function readPair({ cert, key }: TlsFiles): { cert: Buffer; key: Buffer; endsAt: number } {
  try {
    const pair = { cert: readFileSync(cert), key: readFileSync(key) }
    createSecureContext(pair)
    return { ...pair, endsAt: Date.parse(new X509Certificate(pair.cert).validTo) }
  } catch (cause) {
    throw new GopherQueueError(
      'INVALID_ARGUMENT',
      `The certificate ${cert} and the key ${key} cannot be used together (${(cause as Error).message}). Nothing was changed: correct the files.`,
      { cause },
    )
  }
}
