/** Decides for 3.19 what each key needs, from a list of all versions. It sends nothing. */
import type { ObjectVersion } from '../29-restore-version.ts';

/** A deleted object: to remove these markers brings it back. */
export interface Deleted {
  key: string;
  /** Version ids */
  markers: string[];
}

/** An object of which an older version is wanted: a copy of it brings it back. */
export interface Overwritten {
  /** A version, or a marker. */
  current: ObjectVersion;
  wanted: ObjectVersion;
}

/** What there is of one key, as far as it matters. */
export interface Key {
  current: ObjectVersion;
  /** What is to be current: a version, or a marker where the object was deleted at that time; null for neither. */
  wanted: ObjectVersion | null;
  /** Whether a version is newer than that. */
  written: boolean;
  /** Ids of the markers that are newer than that. */
  markers: string[];
}

/**
 * Takes versions and markers together by key.
 *
 * @param versions - Sorted by key, and of each key the newest first, as `listVersions` has them.
 * @param asOf - The moment whose state is wanted. By default the last version of each key.
 * @returns One key after the other.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/DeleteMarker.html
 *
 * @example
 * async function* none(): AsyncGenerator<ObjectVersion> {}
 * for await (const { current, wanted } of byKey(none())) console.log(current.key, wanted?.versionId);
 */
export async function* byKey(versions: AsyncIterable<ObjectVersion>, asOf?: Date): AsyncGenerator<Key> {
  let one: Key | undefined;
  for await (const version of versions) {
    const { key, versionId, deleteMarker, lastModified } = version;
    if (key !== one?.current.key) {
      if (one) yield one;
      one = { current: version, wanted: null, written: false, markers: [] };
    }
    const { wanted } = one;
    const newer = !wanted && (asOf ? lastModified > asOf : deleteMarker);
    // One of the same second may be on top of the version, and does no harm beneath it: it has to go, too.
    const unsure = wanted && !wanted.isLatest && wanted.lastModified.getTime() === lastModified.getTime();
    if (deleteMarker && (newer || unsure)) one.markers.push(versionId);
    else if (newer) one.written = true;
    else one.wanted ??= version;
  }
  if (one) yield one;
}

/**
 * Decides for each key what to do.
 *
 * @param keys - As `byKey` has them.
 * @param onCreated - Called for each key that is there, but was not at that moment.
 * @returns One step after the other: objects whose markers are to be removed, about a thousand markers at a time, or
 *   one object of which a version is to be copied.
 * @see https://docs.aws.amazon.com/AmazonS3/latest/userguide/RestoringPreviousVersions.html
 *
 * @example
 * async function* none(): AsyncGenerator<ObjectVersion> {}
 * const steps = plan(byKey(none()), () => console.log('created since'));
 * for await (const step of steps) console.log(Array.isArray(step) ? 'undelete' : 'copy', step);
 */
export async function* plan(keys: AsyncIterable<Key>, onCreated: () => void): AsyncGenerator<Deleted[] | Overwritten> {
  let batch: Deleted[] = [];
  let size = 0;
  for await (const { current, wanted, written, markers } of keys) {
    if (!wanted || wanted.deleteMarker) {
      if (written && !current.deleteMarker) onCreated();
    } else if (written) {
      // The same content is there, from an earlier run perhaps.
      if (current.etag !== wanted.etag || current.size !== wanted.size) yield { current, wanted };
    } else if (markers.length > 0) {
      batch.push({ key: wanted.key, markers });
      size += markers.length;
    }
    if (size >= 1000) {
      yield batch;
      [batch, size] = [[], 0];
    }
  }
  if (batch.length > 0) yield batch;
}
