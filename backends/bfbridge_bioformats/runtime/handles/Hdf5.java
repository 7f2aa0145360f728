package bfbridge;

import ch.systemsx.cisd.base.mdarray.MDByteArray;
import ch.systemsx.cisd.base.mdarray.MDIntArray;
import ch.systemsx.cisd.base.mdarray.MDShortArray;
import ch.systemsx.cisd.hdf5.HDF5CompoundDataMap;
import hdf.hdf5lib.H5;
import hdf.hdf5lib.HDF5Constants;
import hdf.hdf5lib.exceptions.HDF5LibraryException;
import java.io.File;
import java.io.IOException;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import loci.common.Location;
import loci.formats.services.JHDFServiceImpl;

/**
 * HDF5 files of CellH5 and BigDataViewer, which the HDF5 library opens directly.
 *
 * Links to other files, and data sets whose values are in other files, are checked before the
 * library follows them: every method that takes a path inside the file checks it first.
 */
public final class Hdf5 extends JHDFServiceImpl {

  private static final int DEEPEST = 16;
  private static final long DEFAULT = HDF5Constants.H5P_DEFAULT;

  private final Set<String> checked = new HashSet<>();

  @Override
  public void setFile(String file) throws IOException {
    FileMap.require(file);
    checked.clear();
    super.setFile(file);
  }

  @Override
  public int[] getShape(String path) {
    check(path);
    return super.getShape(path);
  }

  @Override
  public List<String> getMember(String path) {
    check(path);
    return super.getMember(path);
  }

  @Override
  public int getElementSize(String path) {
    check(path);
    return super.getElementSize(path);
  }

  @Override
  public MDByteArray readByteArray(String path) {
    check(path);
    return super.readByteArray(path);
  }

  @Override
  public MDIntArray readIntArray(String path) {
    check(path);
    return super.readIntArray(path);
  }

  @Override
  public MDIntArray readIntBlockArray(String path, int[] offset, int[] size) {
    check(path);
    return super.readIntBlockArray(path, offset, size);
  }

  @Override
  public MDByteArray readByteBlockArray(String path, int[] offset, int[] size) {
    check(path);
    return super.readByteBlockArray(path, offset, size);
  }

  @Override
  public MDShortArray readShortBlockArray(String path, int[] offset, int[] size) {
    check(path);
    return super.readShortBlockArray(path, offset, size);
  }

  @Override
  public String[] readStringArray(String path) {
    check(path);
    return super.readStringArray(path);
  }

  @Override
  public HDF5CompoundDataMap[] readCompoundArrayDataMap(String path) {
    check(path);
    return super.readCompoundArrayDataMap(path);
  }

  @Override
  public boolean exists(String path) {
    check(path);
    return super.exists(path);
  }

  private synchronized void check(String path) {
    if (Location.getIdMap() instanceof FileMap && checked.add(path)) {
      try {
        follow(getFile(), path, 0);
      } catch (HDF5LibraryException e) {
        // There is no such object, or it is damaged: the library reports that.
        return;
      }
    }
  }

  /** Follows a path, link by link, and checks the object at its end. */
  private static void follow(String file, String path, int depth) throws HDF5LibraryException {
    if (depth > DEEPEST) {
      throw new Endless("links of the HDF5 file form a cycle");
    }
    long id = H5.H5Fopen(file, HDF5Constants.H5F_ACC_RDONLY, DEFAULT);
    try {
      StringBuilder walked = new StringBuilder();
      List<String> parts = parts(path);
      for (int i = 0; i < parts.size(); i++) {
        String above = walked.toString();
        walked.append('/').append(parts.get(i));
        int type = H5.H5Lget_info(id, walked.toString(), DEFAULT).type;
        if (type == HDF5Constants.H5L_TYPE_HARD) {
          continue;
        }
        String[] target = new String[2];
        H5.H5Lget_value(id, walked.toString(), target, DEFAULT);
        String rest = "/" + String.join("/", parts.subList(i + 1, parts.size()));
        if (type == HDF5Constants.H5L_TYPE_EXTERNAL) {
          String other = otherFile(file, target[1]);
          if (other != null) {
            follow(other, target[0] + rest, depth + 1);
          }
        } else {
          String start = target[0].startsWith("/") ? "" : above + "/";
          follow(file, start + target[0] + rest, depth + 1);
        }
        return;
      }
      checkStorage(id, walked.toString());
    } finally {
      H5.H5Fclose(id);
    }
  }

  /** Returns the file to which the HDF5 library would follow an external link; it must be allowed. */
  private static String otherFile(String file, String name) {
    File folder = new File(file).getAbsoluteFile().getParentFile();
    List<File> places = new ArrayList<>();
    File asNamed = new File(name);
    // H5L__extern_traverse: an absolute name, then its last part; a relative one beside the file, then
    // in the working folder.
    if (asNamed.isAbsolute()) {
      places.add(asNamed);
      places.add(new File(folder, asNamed.getName()));
    } else {
      places.add(new File(folder, name));
      places.add(asNamed.getAbsoluteFile());
    }
    for (File place : places) {
      if (place.exists()) {
        FileMap.require(place.getPath());
        return place.getPath();
      }
    }
    return null;
  }

  /** Refuses a data set whose values are in other files. */
  private static void checkStorage(long file, String path) throws HDF5LibraryException {
    long set = H5.H5Dopen(file, path.isEmpty() ? "/" : path, DEFAULT);
    try {
      long properties = H5.H5Dget_create_plist(set);
      try {
        if (H5.H5Pget_external_count(properties) > 0) {
          String[] name = new String[1];
          H5.H5Pget_external(properties, 0, 4096, name, new long[2]);
          FileMap.refuseOther(name[0]);
        }
        if (H5.H5Pget_layout(properties) == HDF5Constants.H5D_VIRTUAL) {
          for (long i = 0; i < H5.H5Pget_virtual_count(properties); i++) {
            String name = H5.H5Pget_virtual_filename(properties, i);
            if (!".".equals(name)) {
              FileMap.refuseOther(name);
            }
          }
        }
      } finally {
        H5.H5Pclose(properties);
      }
    } finally {
      H5.H5Dclose(set);
    }
  }

  private static List<String> parts(String path) {
    List<String> found = new ArrayList<>();
    for (String part : path.split("/")) {
      if (!part.isEmpty() && !part.equals(".")) {
        found.add(part);
      }
    }
    return found;
  }
}
