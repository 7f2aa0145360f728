package bfbridge;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.LinkOption;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.Iterator;
import java.util.LinkedHashSet;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.regex.Pattern;
import java.util.stream.Stream;

/**
 * Which files one data set may open: regular files in the folder of its main file, or in the tree
 * of folders that its format consists of.
 */
public final class Access {

  /** Why a name must not be opened. */
  static final String OUTSIDE = "outside";
  static final String URL = "url";
  static final String DEVICE = "device";
  static final String NO_PATH = "synthetic";

  /** A name with a scheme, as loci.common.Location recognises URLs. */
  private static final Pattern WITH_SCHEME =
      Pattern.compile("\\p{Alnum}[\\p{Alnum}+.-]*://.*", Pattern.DOTALL);

  private static final String SYNTHETIC = ".fake";

  /**
   * Formats that consist of a tree of folders, whose files are located by fixed paths and not
   * by names inside a file: their own folder is this number of levels above the main file.
   */
  private static final Map<String, Integer> TREES = Map.ofEntries(
      Map.entry("APLReader", 2),
      Map.entry("BDReader", 1),
      Map.entry("BrukerReader", 3),
      Map.entry("CellSensReader", 2),
      Map.entry("CellVoyagerReader", 1),
      Map.entry("CellWorxReader", 1),
      Map.entry("ColumbusReader", 2),
      Map.entry("DicomReader", 1),
      Map.entry("FV1000Reader", 1),
      Map.entry("FlexReader", 2),
      Map.entry("InCellReader", 1),
      Map.entry("L2DReader", 1),
      Map.entry("MIASReader", 3),
      Map.entry("MicromanagerReader", 1),
      Map.entry("OIRReader", 1),
      Map.entry("OlympusTileReader", 2),
      Map.entry("OperettaReader", 2),
      Map.entry("PerkinElmerReader", 1),
      Map.entry("PrairieReader", 1),
      Map.entry("ScanrReader", 2),
      Map.entry("TecanReader", 1),
      Map.entry("TillVisionReader", 2),
      Map.entry("TrestleReader", 1),
      Map.entry("VolocityReader", 2),
      Map.entry("XLEFReader", 2));

  /** Readers that open some files without Location; the folders that they search. */
  private static final Set<String> UNSEEN =
      Set.of("SlideBook7Reader", "TecanReader", "TillVisionReader");
  private static final int DEEPEST = 6;
  private static final int MOST_FILES = 100_000;

  private final File main;
  private final boolean everywhere;
  private volatile Set<String> roots = Set.of();
  private final Map<Integer, Set<String>> rootsByDepth = new ConcurrentHashMap<>();
  private final Map<String, String> folders = new ConcurrentHashMap<>();

  /**
   * @param main absolute name of the main file
   * @param everywhere whether files outside its folder may be opened
   */
  public Access(String main, boolean everywhere) {
    this.main = new File(main).getAbsoluteFile();
    this.everywhere = everywhere;
    setFormat("");
  }

  /** Sets the tree of the data set to that of the format of a reader, by its simple class name. */
  void setFormat(String reader) {
    roots = rootsByDepth.computeIfAbsent(TREES.getOrDefault(reader, 0), this::rootsAbove);
  }

  private Set<String> rootsAbove(int levels) {
    File folder = main.getParentFile();
    for (int level = levels; level > 0 && folder.getParentFile() != null; level--) {
      folder = folder.getParentFile();
    }
    Set<String> found = new LinkedHashSet<>();
    found.add(real(folder));
    // If the main file is a link, the folder of its target is allowed too.
    found.add(new File(real(main)).getParent());
    return found;
  }

  /** Returns the reason why a name must not be opened, or null. */
  public String objection(String name) {
    if (isRemote(name)) {
      return URL;
    }
    if (name.toLowerCase(Locale.ROOT).endsWith(SYNTHETIC)
        && !main.getName().toLowerCase(Locale.ROOT).endsWith(SYNTHETIC)) {
      return NO_PATH;
    }
    File file = new File(name).getAbsoluteFile();
    BasicFileAttributes own = attributes(file, LinkOption.NOFOLLOW_LINKS);
    if (own == null) {
      return null;
    }
    String place = place(file, own.isSymbolicLink());
    BasicFileAttributes found = own.isSymbolicLink() ? attributes(file) : own;
    if (!everywhere && !isInside(place)) {
      // Names of parent folders may be tested; their files are outside.
      boolean above = found != null && found.isDirectory() && isAbove(place);
      return above ? null : OUTSIDE;
    }
    return found != null && found.isOther() ? DEVICE : null;
  }

  /** Returns the real paths of the data set's folders, or null if files anywhere may be opened. */
  public String[] folders() {
    return everywhere ? null : roots.toArray(new String[0]);
  }

  /** Whether files outside the data set's folders may be opened. */
  boolean isEverywhere() {
    return everywhere;
  }

  /**
   * Returns the first of a reader's files that must not be opened, as "objection: name", or null.
   *
   * @param files result of IFormatReader.getUsedFiles
   */
  public String firstRefused(String[] files) {
    for (String name : files) {
      boolean absolute = new File(name).isAbsolute() || isRemote(name);
      String objection = objection(absolute ? name : new File(main.getParent(), name).getPath());
      if (objection != null) {
        return objection + ": " + name;
      }
    }
    return null;
  }

  /**
   * Returns the first file in the data set's folders that must not be opened, as above, or null.
   *
   * Some readers open files without loci.common.Location, by fixed paths, so that only a
   * link or a pipe among them can point elsewhere.
   */
  String firstRefusedBelow(String reader) throws IOException {
    if (!UNSEEN.contains(reader)) {
      return null;
    }
    for (String root : roots) {
      try (Stream<Path> files = Files.walk(new File(root).toPath(), DEEPEST)) {
        Iterator<Path> each = files.limit(MOST_FILES).iterator();
        while (each.hasNext()) {
          String name = each.next().toString();
          String objection = objection(name);
          if (objection != null) {
            return objection + ": " + name;
          }
        }
      } catch (UncheckedIOException e) {
        throw e.getCause();
      }
    }
    return null;
  }

  /** Whether a name is a URL, was a URL (FileMap), or on Windows names another machine. */
  private boolean isRemote(String name) {
    return name.indexOf('\0') >= 0
        || WITH_SCHEME.matcher(name).matches()
        || (isShare(name) && !isShare(main.getPath()));
  }

  private static boolean isShare(String name) {
    return File.separatorChar == '\\' && (name.startsWith("\\\\") || name.startsWith("//"));
  }

  /** Returns the real path of a file; results for its folder are cached. */
  private String place(File file, boolean link) {
    File parent = file.getParentFile();
    String name = file.getName();
    if (link || parent == null || name.equals("..") || name.equals(".")) {
      return real(file);
    }
    String folder = folders.computeIfAbsent(parent.getPath(), path -> real(new File(path)));
    return folder.endsWith(File.separator) ? folder + name : folder + File.separator + name;
  }

  private boolean isInside(String place) {
    for (String root : roots) {
      if (place.equals(root) || place.startsWith(withSeparator(root))) {
        return true;
      }
    }
    return false;
  }

  private boolean isAbove(String place) {
    for (String root : roots) {
      if (root.startsWith(withSeparator(place))) {
        return true;
      }
    }
    return false;
  }

  private static String withSeparator(String folder) {
    return folder.endsWith(File.separator) ? folder : folder + File.separator;
  }

  private static String real(File file) {
    try {
      return file.getCanonicalPath();
    } catch (IOException e) {
      return file.getAbsolutePath();
    }
  }

  private static BasicFileAttributes attributes(File file, LinkOption... options) {
    try {
      return Files.readAttributes(file.toPath(), BasicFileAttributes.class, options);
    } catch (IOException | InvalidPathException e) {
      return null;
    }
  }
}
