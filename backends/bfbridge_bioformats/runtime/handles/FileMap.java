package bfbridge;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.LongBuffer;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import loci.common.Location;

/**
 * The files that a thread's loci.common.Location sees, instead of those on disk.
 *
 * Location looks up every name and every stream that it opens. Names that Access
 * refuses become names that no file has, or end the call. Location hands the same object to every
 * stream that is opened on a name; streams would then share one position and byte order. This map
 * makes a new handle for each.
 */
public final class FileMap extends HashMap<String, Object> implements Closeable {

  private static final long serialVersionUID = 1L;

  /** Most queries while a file is opened, or a region is read; more mean an endless loop. */
  private static final int MOST_QUERIES = 5_000_000;

  /** Most names that are recorded. */
  private static final int MOST_LOOKUPS = 500_000;

  /** A name that contains this is not the name of any file. */
  private static final String NO_FILE = "\0";

  private final transient Map<String, Source> sources = new ConcurrentHashMap<>();
  private final transient Map<String, Object> others = new ConcurrentHashMap<>();
  private final boolean local;
  private final transient Access access;
  private volatile boolean detecting;
  private volatile String refusal;
  private volatile boolean refusalPassed;
  private transient volatile byte[] watched;
  private volatile int cutShort;
  private volatile int ranOut;
  private volatile int reads;
  private volatile int round;
  private int queries;
  private transient volatile LongBuffer counter;
  private transient volatile Set<String> lookups;

  /**
   * @param local whether files on disk are read through this map as well, to check the reads
   * @param access what may be opened
   */
  public FileMap(boolean local, Access access) {
    this.local = local;
    this.access = access;
  }

  /** While the format is detected, files that may not be opened are invisible. */
  void detect(boolean now) {
    detecting = now;
  }

  Access access() {
    return access;
  }

  /**
   * Returns what was refused, as "objection: name", or null, and clears it.
   *
   * @param failed whether the call ended with an error; otherwise skipped files are ignored
   */
  public String takeRefusal(boolean failed) {
    String found = failed || !refusalPassed ? refusal : null;
    refusal = null;
    refusalPassed = false;
    return found;
  }

  /** Adds a file under an absolute name. */
  public void add(String name, Source source) {
    sources.put(name, source);
  }

  /** Counts every read in the first eight bytes of a direct buffer as well. */
  public void countIn(ByteBuffer buffer) {
    counter = buffer.order(ByteOrder.nativeOrder()).asLongBuffer();
  }

  /** Watches an array before pixels are read into it, or null; resets the counts. */
  public void watch(byte[] array) {
    watched = array;
    cutShort = 0;
    ranOut = 0;
    reads = 0;
    queries = 0;
    round++;
  }

  /** Number of calls of `watch`, each of which resets the counts. */
  int round() {
    return round;
  }

  /** How often a file ended while it was read directly into the watched array. */
  public int timesCutShort() {
    return cutShort;
  }

  /** How often a file ended before the requested number of bytes, for any array. */
  public int timesRunOut() {
    return ranOut;
  }

  /** Number of reads. */
  public int timesRead() {
    return reads;
  }

  /** Records the names that Location looks up from now on. */
  public void recordLookups() {
    lookups = ConcurrentHashMap.newKeySet();
  }

  /**
   * Ends the recording.
   *
   * @return the names with a NUL after each, or null if there are too many
   */
  public String takeLookups() {
    Set<String> found = lookups;
    lookups = null;
    if (found == null || found.size() > MOST_LOOKUPS) {
      return null;
    }
    StringBuilder names = new StringBuilder();
    for (String name : found) {
      // Names with NUL are those of refused files.
      if (!name.contains(NO_FILE)) {
        names.append(name).append(NO_FILE);
      }
    }
    return names.toString();
  }

  void ended(byte[] array) {
    ranOut++;
    if (array != null && array == watched) {
      cutShort++;
    }
  }

  void read() {
    reads++;
    LongBuffer shared = counter;
    if (shared != null) {
      shared.put(0, shared.get(0) + 1);
    }
  }

  @Override
  public Object get(Object key) {
    if (!(key instanceof String)) {
      return null;
    }
    if (++queries > MOST_QUERIES) {
      throw new Endless("the same file names are looked up in an endless loop");
    }
    String name = (String) key;
    Set<String> recorded = lookups;
    if (recorded != null && recorded.size() <= MOST_LOOKUPS) {
      recorded.add(name);
    }
    Object mapped = others.get(name);
    if (mapped != null) {
      return mapped;
    }
    Source source = sources.get(name);
    if (source == null) {
      String objection = access.objection(name);
      if (objection != null) {
        return refuse(name, objection);
      }
      source = local ? onDisk(name) : null;
    }
    return source == null ? null : new Handle(source, this);
  }

  /**
   * Handles a name that must not be opened: returns a name that no file can have, or null if Location
   * only looks it up; or ends the call of a reader that is about to open it.
   */
  private String refuse(String name, String objection) {
    boolean query = isQuery();
    if (query && !objection.equals(Access.URL)) {
      return null;
    }
    // Some readers open every file in a folder: a pipe there is skipped.
    boolean passed = objection.equals(Access.DEVICE);
    if (!query && !detecting) {
      String refused = objection + ": " + name;
      if (!passed && refusal != null && name.contains(NO_FILE)) {
        // It was skipped under its own name before.
        refused = refusal;
      }
      if (!passed) {
        end(refused);
      }
      refusal = refusal == null ? refused : refusal;
      refusalPassed = true;
    }
    return NO_FILE + name;
  }

  /**
   * Ends the call if the current data set may not open a file. For libraries that open files
   * without Location.
   */
  static void require(String name) {
    if (Location.getIdMap() instanceof FileMap) {
      FileMap map = (FileMap) Location.getIdMap();
      String objection = map.access.objection(name);
      if (objection != null) {
        map.end(objection + ": " + name);
      }
    }
  }

  /** Like `require`, for a file that is named in a way that no format needs. */
  static void refuseOther(String name) {
    if (Location.getIdMap() instanceof FileMap) {
      FileMap map = (FileMap) Location.getIdMap();
      if (!map.access.isEverywhere()) {
        map.end(Access.OUTSIDE + ": " + name);
      }
    }
  }

  /** Ends the call if a reader could open a forbidden file without this map. */
  void requireBelow(String reader) throws IOException {
    String refused = access.firstRefusedBelow(reader);
    if (refused != null) {
      end(refused);
    }
  }

  private void end(String refused) {
    refusal = refused;
    refusalPassed = false;
    throw new Refused(refused);
  }

  private static boolean isQuery() {
    StackWalker.StackFrame caller = StackWalker.getInstance().walk(frames -> frames
        .filter(frame -> !frame.getClassName().equals(FileMap.class.getName()))
        .filter(frame -> !frame.getMethodName().startsWith("getMapped"))
        .findFirst()
        .orElse(null));
    return caller != null
        && caller.getClassName().equals("loci.common.Location")
        && (caller.getMethodName().equals("<init>") || caller.getMethodName().equals("exists"));
  }

  @Override
  public boolean containsKey(Object key) {
    return others.containsKey(key) || sources.containsKey(key);
  }

  /** Names that readers map themselves: parts of a file that are files of another format. */
  @Override
  public Object put(String key, Object value) {
    return others.put(key, value);
  }

  @Override
  public Object remove(Object key) {
    return others.remove(key);
  }

  @Override
  public Set<String> keySet() {
    Set<String> names = new LinkedHashSet<>(others.keySet());
    if (!local) {
      names.addAll(sources.keySet());
    }
    return names;
  }

  private Source onDisk(String name) {
    String lower = name.toLowerCase(Locale.ROOT);
    // Location decompresses these itself. Not .zip: a zip file without entries would block it,
    // and ZipReader needs the file itself.
    if (lower.endsWith(".gz") || lower.endsWith(".bz2")) {
      return null;
    }
    File file = new File(name);
    if (!file.isFile()) {
      return null;
    }
    return sources.computeIfAbsent(name, key -> new LocalSource(file));
  }

  @Override
  public void close() {
    for (Source source : sources.values()) {
      source.close();
    }
    sources.clear();
    others.clear();
  }
}
